// eventsource 5 against SERVER_URL: follows ADDRESS to the result and until it is told to stay away. A line for each event.
import { EventSource } from "eventsource";

const say = (line) => console.log(JSON.stringify(line));
// Its own timers do not keep the process.
const alive = setInterval(() => {}, 1_000);
const source = new EventSource(process.env.SERVER_URL + process.env.ADDRESS);
source.onmessage = ({ lastEventId, data }) => say({ id: lastEventId, type: JSON.parse(data).type });
source.onerror = ({ code }) => {
  if (source.readyState !== EventSource.CLOSED) return;
  say({ closed: code });
  clearInterval(alive);
};
