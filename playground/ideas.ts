/** Prompts to begin with. The built-in model knows landscapes alone; its ideas lead with the scenes that it draws best. */

export interface Idea {
  /** A word or two, for the button. */
  readonly name: string;
  readonly prompt: string;
}

const LANDSCAPES: readonly Idea[] = [
  { name: "Northern lights", prompt: "northern lights over a lake" },
  { name: "Sailboat", prompt: "a sailboat at sunset" },
  { name: "Foggy forest", prompt: "a foggy forest at dawn" },
  { name: "City at night", prompt: "a city skyline at night" },
  { name: "Sea", prompt: "a beautiful sunset over the sea" },
  { name: "Lone tree", prompt: "green hills with a lone tree, blue sky" },
  { name: "Birds", prompt: "a flock of birds over the mountains at noon" },
  { name: "Balloon", prompt: "a colorful hot air balloon over rolling hills" },
];

const ANYTHING: readonly Idea[] = [
  { name: "Northern lights", prompt: "northern lights over a lake" },
  { name: "Sailboat", prompt: "a sailboat at sunset, oil on canvas" },
  { name: "Fox", prompt: "a red fox in fresh snow, morning light" },
  { name: "Greenhouse", prompt: "a glass greenhouse full of ferns" },
  { name: "Rain", prompt: "a quiet street in the rain at night" },
  { name: "Still life", prompt: "a still life with lemons and a blue jug" },
  { name: "Village", prompt: "a mountain village seen from the air" },
];

export function ideasFor(model: string): readonly Idea[] {
  return model === "landscapes" ? LANDSCAPES : ANYTHING;
}
