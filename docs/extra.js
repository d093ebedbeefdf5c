// Wide tables scroll: let the keyboard reach them, too. The theme wraps them once the page is drawn.
document$.subscribe(() =>
  requestAnimationFrame(() => {
    for (const wrap of document.querySelectorAll(".md-typeset__scrollwrap")) wrap.tabIndex = 0;
  }),
);
