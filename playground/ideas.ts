/** Prompts to begin with. The built-in model was taught landscapes alone, so what it is offered are landscapes. */

export interface Idea {
  /** A word or two, for the button. */
  readonly name: string;
  readonly prompt: string;
}

const LANDSCAPES: readonly Idea[] = [
  { name: "Lighthouse", prompt: "a lighthouse at sunset with a full moon" },
  { name: "Northern lights", prompt: "northern lights over snowy mountains" },
  { name: "Sailboat", prompt: "a sailboat on a calm sea at dawn" },
  { name: "City at night", prompt: "a city skyline at night, starry sky" },
  { name: "Desert", prompt: "a tall cactus in the desert, purple sky" },
  { name: "Balloon", prompt: "a red hot air balloon above green hills" },
  { name: "Foggy forest", prompt: "a foggy pine forest at dawn" },
  { name: "Windmill", prompt: "an old windmill on rolling hills at noon" },
  { name: "Pyramids", prompt: "pyramids in the desert at sunset" },
  { name: "Cabin", prompt: "a wooden cabin near a mountain lake at night" },
  { name: "Palms", prompt: "palm trees by the ocean, pink sunset" },
  { name: "Birds", prompt: "a flock of birds over the mountains at dawn" },
];

const ANYTHING: readonly Idea[] = [
  { name: "Lighthouse", prompt: "a lighthouse at dusk, oil on canvas" },
  { name: "Fox", prompt: "a red fox in fresh snow, morning light" },
  { name: "Greenhouse", prompt: "a glass greenhouse full of ferns" },
  { name: "Rain", prompt: "a quiet street in the rain at night" },
  { name: "Still life", prompt: "a still life with lemons and a blue jug" },
  { name: "Village", prompt: "a mountain village seen from the air" },
];

export function ideasFor(model: string): readonly Idea[] {
  return model === "landscapes" ? LANDSCAPES : ANYTHING;
}
