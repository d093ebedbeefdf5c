// A field to draw on, by pointer or keyboard.

class Drawing {
  constructor(canvas, mark, width, changed) {
    Object.assign(this, { canvas, mark, width, changed });
    this.pen = canvas.getContext("2d", { willReadFrequently: true });
    this.at = [canvas.width / 2, canvas.height / 2];
    this.down = false;
    this.clear();
    canvas.addEventListener("pointerdown", (event) => this.press(event));
    canvas.addEventListener("pointermove", (event) => this.pull(event));
    for (const end of ["pointerup", "pointercancel"]) canvas.addEventListener(end, () => { this.pressed = false; });
    canvas.addEventListener("keydown", (event) => this.key(event));
    canvas.addEventListener("blur", () => { this.down = false; this.show(false); });
  }

  clear() {
    this.pen.fillStyle = "#000";
    this.pen.fillRect(0, 0, this.canvas.width, this.canvas.height);
    this.changed();
  }

  stroke(from, to) {
    Object.assign(this.pen, { strokeStyle: "#fff", lineCap: "round", lineJoin: "round", lineWidth: Number(this.width.value) });
    this.pen.beginPath();
    this.pen.moveTo(...from);
    this.pen.lineTo(...to);
    this.pen.stroke();
    this.at = to;
    this.changed();
  }

  place(event) {
    const box = this.canvas.getBoundingClientRect(), scale = this.canvas.width / box.width;
    return [(event.clientX - box.left) * scale, (event.clientY - box.top) * scale];
  }

  press(event) {
    if (event.button) return;
    this.canvas.setPointerCapture(event.pointerId);
    this.show(false);
    this.pressed = true;
    this.stroke(this.place(event), this.place(event));
  }

  pull(event) {
    if (this.pressed) this.stroke(this.at, this.place(event));
  }

  key(event) {
    const moves = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
    const far = this.canvas.width / 28;
    if (event.key === " ") this.down = !this.down;
    else if (event.key === "Delete" || event.key === "Backspace") this.clear();
    else if (!moves[event.key]) return;
    event.preventDefault();
    const move = moves[event.key] ?? [0, 0];
    const to = this.at.map((n, axis) => Math.min(this.canvas.width, Math.max(0, n + far * move[axis])));
    if (this.down) this.stroke(this.at, to);
    this.at = to;
    this.show(true);
  }

  show(seen) {
    this.mark.hidden = !seen;
    this.mark.classList.toggle("down", this.down);
    this.mark.style.left = `${(100 * this.at[0]) / this.canvas.width}%`;
    this.mark.style.top = `${(100 * this.at[1]) / this.canvas.height}%`;
  }

  picture() {
    const { width, height } = this.canvas, { data } = this.pen.getImageData(0, 0, width, height);
    return { width, height, data: Uint8Array.from({ length: width * height }, (_, i) => data[4 * i]) };
  }
}
