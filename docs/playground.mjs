// Makes docs/playground-paint.webp, the picture of the page in the README. `npm run docs:pictures` runs it, after `npm run build`.
// It needs Debian's Chromium. It starts a server, unless it gets the address of one: `node docs/playground.mjs ADDRESS`.
import { spawn } from "node:child_process";
import { chromium } from "playwright-core";
import sharp from "sharp";

const server =
  process.argv[2] === undefined
    ? spawn(process.execPath, ["dist/cli.js", "serve", "--port", "0"], { stdio: ["ignore", "pipe", "inherit"] })
    : undefined;
const address = process.argv[2] ?? (await printedAddress());
const WEBP = { quality: 82, effort: 6 };

const browser = await chromium.launch({
  executablePath: "/usr/bin/chromium",
  args: ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-background-networking"],
});

/** The address that the server prints once it answers. */
async function printedAddress() {
  let text = "";
  for await (const data of server.stdout) {
    text += data;
    const found = /serving +(http:\S+)/.exec(text)?.[1];
    if (found) return found;
  }
  throw new Error("the server ended before it answered");
}

async function open(options) {
  const page = await (await browser.newContext({ viewport: { width: 1360, height: 850 }, ...options })).newPage();
  await page.goto(address, { waitUntil: "networkidle" });
  return page;
}

async function picture(page, name) {
  await page.locator("#strip > :last-child").filter({ hasText: "Final" }).waitFor({ timeout: 120_000 });
  await page.locator("body:not(.busy)").waitFor({ timeout: 120_000 });
  // Fades end.
  await page.waitForTimeout(900);
  await page.evaluate("scrollTo(0, 0)");
  const { width } = page.viewportSize();
  await sharp(await page.screenshot())
    .resize({ width })
    .webp(WEBP)
    .toFile(`docs/${name}.webp`);
  await page.close();
}

{
  const page = await open({ colorScheme: "dark" });
  await page.check("input[value=canvas]");
  await page.check("input[value=realtime]");
  await page.fill("#prompt", "palm trees by the ocean, pink sunset");
  await page.locator("#strength").fill("0.55");
  await page.fill("#seed", "3");
  const box = await page.locator("#canvas").boundingBox();
  const paint = async (colour, size, ...strokes) => {
    await page.click(`label[title=${colour}]`);
    await page.locator("#brush").fill(String(size));
    for (const [from, ...on] of strokes) {
      await page.mouse.move(box.x + from[0] * box.width, box.y + from[1] * box.height);
      await page.mouse.down();
      for (const [x, y] of on) await page.mouse.move(box.x + x * box.width, box.y + y * box.height, { steps: 10 });
      await page.mouse.up();
    }
  };
  const across = (y) => [
    [0, y],
    [1, y],
  ];
  const leaf = (x, y) => [
    [0.25, 0.28],
    [x, y],
  ];
  const trunk = [
    [0.24, 0.78],
    [0.27, 0.5],
    [0.25, 0.3],
  ];
  const sun = [
    [0.62, 0.42],
    [0.63, 0.42],
  ];
  await paint("Rose", 110, across(0.09), across(0.24));
  await paint("Sunset", 90, across(0.41), across(0.5));
  await paint("Sun", 70, sun);
  await paint("Sea", 110, across(0.66), across(0.8), across(0.95));
  await paint("Night", 16, trunk);
  await paint("Pine", 18, leaf(0.1, 0.32), leaf(0.12, 0.22), leaf(0.38, 0.2), leaf(0.42, 0.33));
  await page.waitForTimeout(500);
  await picture(page, "playground-paint");
}

await browser.close();
server?.kill();
