"""The criterion as functions of x: values, signs and every derivative."""
