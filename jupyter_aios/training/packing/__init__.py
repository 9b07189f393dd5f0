"""The notebook's side of travelling code: a cell, script or function becomes files and pickles.

names, sources, comparison, definitions   what code reads, and whether source is still true
lookup, patches, helpers                  what is importable, and what libraries and helpers became
shipment, staging, bundle                 what travels, in which order
pickling, reducers, tensors               as which bytes
cell, environment                         syntax, and variables

The rank's side is `jupyter_aios.training.loading`. Nothing here imports torch, and importing this
package imports nothing: its modules are for those who pack.
"""
