"""Two packages beside each other; ``deploycc/diff.py`` is the front.

``matching`` finds which steps belong together, ``layers`` and ``facts`` compare what manifests say,
``comparing`` what the packages compute and ``timing`` how long they take; ``sections`` and ``rendering``
say it.
"""
