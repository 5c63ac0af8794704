"""Reports as one self-contained page: no network, no framework, nothing of the model run as code.

``page`` knows what a page is, ``sections`` what a lint report has on it.
"""
