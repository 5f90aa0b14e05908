// Wide tables scroll. A keyboard can scroll them only if they can have the focus (WCAG 2.1, 2.1.1). The theme makes their frames when
// the page is shown.
document$.subscribe(() => requestAnimationFrame(() => {
  for (const frame of document.querySelectorAll(".md-typeset__scrollwrap")) frame.tabIndex = 0
}))
