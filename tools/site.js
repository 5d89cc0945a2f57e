// The docs site's own behaviour: sliders of static twins, figures that open large. No library, no network.
document.addEventListener("DOMContentLoaded", () => {
  for (const twin of document.querySelectorAll(".twin")) {
    const places = JSON.parse(twin.querySelector("script").textContent);
    const [slider, picture, words, said] = ["input", "img", "pre", "output"].map((name) => twin.querySelector(name));
    slider.addEventListener("input", () => {
      const place = places[slider.value];
      picture.src = place.src;
      picture.alt = place.alt;
      words.textContent = place.words;
      said.textContent = place.value;
      slider.setAttribute("aria-valuetext", place.value);
    });
  }

  for (const output of document.querySelectorAll(".cell-output")) {
    if (output.scrollWidth > output.clientWidth) output.tabIndex = 0;  // what scrolls must be in reach of the keyboard
  }

  const dialog = document.createElement("dialog");
  dialog.className = "enlarged";
  dialog.setAttribute("aria-label", "Enlarged figure");
  const close = document.createElement("button");
  close.textContent = "Close";
  close.addEventListener("click", () => dialog.close());
  const large = document.createElement("img");
  dialog.append(close, large);
  dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());
  const enlarge = (figure) => {
    large.src = figure.src;
    large.alt = figure.alt;
    if (!dialog.isConnected) document.body.append(dialog);
    dialog.showModal();
  };
  for (const figure of document.querySelectorAll("main img:not([src^='data:image/svg'])")) {
    const button = document.createElement("button");
    button.className = "enlarge";
    button.textContent = "⤢";
    button.title = "Enlarge this figure";
    button.setAttribute("aria-label", "Enlarge this figure");
    button.addEventListener("click", () => enlarge(figure));
    figure.addEventListener("click", () => enlarge(figure));
    figure.after(button);
  }
});
