"""Secrets and rights in a notebook: what is in the vault, who may what, what was denied lately.

Never a secret's value: nothing here asks for one, and no reply that is read has one.

reading  what the controller tells whoever asks, read at one moment
rows     secrets, members and decisions as rows of text (pure)
words    how the vault and the classes of secrets are told, and what to type (pure)
model    what is read becomes what the page lays out (pure)
text     the same for a terminal (pure)
static   the page that a saved notebook keeps
view     the widget, and the messages between kernel and page
*.js     what runs in the page, in the order of `view.SCRIPTS`
"""
