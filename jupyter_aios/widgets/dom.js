// ------------------------------------------------------------------ pieces of a page

function element(tag, className = "", text = "") {
  const made = document.createElement(tag);
  if (className) made.className = className;
  if (text) made.textContent = text;
  return made;
}

function button(text, label, press) {
  const made = element("button", "aios-button", text);
  made.type = "button";
  if (label) {
    made.title = label;
    made.setAttribute("aria-label", label);
  }
  made.addEventListener("click", press);
  return made;
}

// Writing what already stands there would end a person's selection.
function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}
