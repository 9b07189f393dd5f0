"""The notebook's side of travelling code: a cell, script or function becomes files and pickles.

names, sources, comparison, definitions   what code reads, and whether source is still true
shipment, pickling, staging, bundle       what travels, as which bytes, in which order
cell, environment                         syntax, and variables

The rank's side is `jupyter_aios.training.loading`. Nothing here imports torch, and importing this
package imports nothing: its modules are for those who pack.
"""
