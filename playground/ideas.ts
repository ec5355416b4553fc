/** Prompts to begin with. The built-in model was taught landscapes alone, so what it is offered are landscapes. */

const LANDSCAPES = [
  "a lighthouse at sunset with a full moon",
  "northern lights over snowy mountains",
  "a sailboat on a calm sea at dawn",
  "a city skyline at night, starry sky",
  "a tall cactus in the desert, purple sky",
  "a red hot air balloon above green hills",
  "a foggy pine forest at dawn",
  "an old windmill on rolling hills at noon",
  "pyramids in the desert at sunset",
  "a wooden cabin near a mountain lake at night",
  "palm trees by the ocean, pink sunset",
  "a flock of birds over the mountains at dawn",
];

const ANYTHING = [
  "a lighthouse at dusk, oil on canvas",
  "a red fox in fresh snow, morning light",
  "a glass greenhouse full of ferns",
  "a quiet street in the rain at night",
  "a still life with lemons and a blue jug",
  "a mountain village seen from the air",
];

export function ideasFor(model: string): readonly string[] {
  return model === "landscapes" ? LANDSCAPES : ANYTHING;
}
