// The code, as both sides know it: International Morse (ITU-R M.1677-1).
const TABLE =
  "a .- b -... c -.-. d -.. e . f ..-. g --. h .... i .. j .--- k -.- l .-.. m -- n -. o --- p .--. q --.- r .-. " +
  "s ... t - u ..- v ...- w .-- x -..- y -.-- z --.. 0 ----- 1 .---- 2 ..--- 3 ...-- 4 ....- 5 ..... 6 -.... " +
  "7 --... 8 ---.. 9 ----.";

const pairs = [...TABLE.matchAll(/(\w) ([.-]+)/g)].map(([, letter, signs]) => [letter, signs]);

export const CODE = Object.fromEntries(pairs);
export const LETTERS = Object.fromEntries(pairs.map(([letter, signs]) => [signs, letter]));
