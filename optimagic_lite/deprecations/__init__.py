"""The one place that knows how calls were written in estimagic and in early optimagic.

``names`` has the tables of old and new names, ``options`` translates dicts of options, ``calls``
whole calls. What criteria returned in the past is read in ``objective.dicts``.
"""
