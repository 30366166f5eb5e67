"""A page to try trained networks on one's own pictures, and the small server behind it.

`app` has the addresses, `guard` says who may ask, `answer` is what is sent of a picture, and
`page.html` with its style and script what people see. It knows no networks, only functions.
"""
