"""The mathematics of parameters: from the user's tree to the vector of an algorithm and back."""
