// Wide tables scroll. A keyboard can scroll them only if they can have the focus (WCAG 2.1, 2.1.1). The theme makes their frames when
// the page is shown.
document$.subscribe(() => requestAnimationFrame(() => {
  for (const frame of document.querySelectorAll(".md-typeset__scrollwrap")) frame.tabIndex = 0
}))

// The theme makes a landmark of the buttons of each block of code, as soon as the block is seen. Too many landmarks help nobody.
document$.subscribe(() => {
  const demote = () => {
    for (const buttons of document.querySelectorAll("nav.md-code__nav:not([role])")) buttons.setAttribute("role", "none")
  }
  new MutationObserver(demote).observe(document.body, {childList: true, subtree: true})
  demote()
})
