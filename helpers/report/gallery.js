// Filter of the failure gallery, and opening the case that an address names; without it all cases can be read.
document.querySelectorAll(".gallery").forEach((gallery) => {
  const controls = gallery.querySelector(".controls");
  const [search, track, told] = ["input", "select", "output"].map((name) => controls.querySelector(name));
  const cases = [...gallery.querySelectorAll(".case")];
  const filter = () => {
    const wanted = search.value.trim().toLowerCase();
    for (const one of cases) {
      const section = one.closest("section");
      one.hidden = (track.value && section.dataset.track !== track.value)
        || !(section.querySelector("h3").textContent + one.parentElement.querySelector("h4").textContent
          + one.textContent).toLowerCase().includes(wanted);
    }
    for (const group of gallery.querySelectorAll(".class, section"))
      group.hidden = !group.querySelector(".case:not([hidden])");
    const left = cases.filter((one) => !one.hidden).length;
    told.textContent = `${left} of ${cases.length} cases`;
  };
  const open = () => {
    const named = document.getElementById(decodeURIComponent(location.hash.slice(1)));
    if (named && gallery.contains(named) && named.matches(".case")) named.open = true;
  };
  search.addEventListener("input", filter);
  track.addEventListener("change", filter);
  addEventListener("hashchange", open);
  controls.hidden = false;
  filter();
  open();
});
