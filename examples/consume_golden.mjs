// Checks an implementation of the DDPM and DDIM coefficients against refdiff's golden values.
//
//   refdiff golden export --topic ddim --format json --output ddim.json
//   node consume_golden.mjs ddim.json
//
// Exit status: 0 when every value is met, 1 when one is not, 2 when the file holds nothing to check.

import { readFileSync } from "node:fs";

const exact = (text) => {
  const [numerator, denominator = "1"] = text.split("/");
  return Number(numerator) / Number(denominator);
};

// The implementation under test: x_s = x_t_coefficient x_t + eps_coefficient eps + z_coefficient z.
function ddim({ abar_t, abar_s, eta }) {
  const sigma = eta * Math.sqrt(((1 - abar_s) / (1 - abar_t)) * (1 - abar_t / abar_s));
  const scale = Math.sqrt(abar_s / abar_t);
  const direction = Math.sqrt(1 - abar_s - sigma * sigma);
  return { x_t: scale, eps: direction - scale * Math.sqrt(1 - abar_t), z: sigma };
}

function ddpm({ abar_t, abar_s, variance_kind }) {
  const alpha = abar_t / abar_s;
  const beta = 1 - alpha;
  const variance = variance_kind === "beta" ? beta : (beta * (1 - abar_s)) / (1 - abar_t);
  const eps = -beta / Math.sqrt(alpha * (1 - abar_t));
  return { x_t: 1 / Math.sqrt(alpha), eps, z: Math.sqrt(variance) };
}

const IMPLEMENTED = {
  "ddim.step": ddim,
  "ddim.sigma": (given) => ({ value: ddim(given).z }),
  "ddpm.step": ddpm,
  "ddpm.skip_step": ddpm,
};

function given(input) {
  const numbers = {};
  for (const [name, value] of Object.entries(input)) {
    numbers[name] = typeof value === "string" && name !== "variance_kind" ? exact(value) : value;
  }
  return numbers;
}

// The stored double is the nearest one to the certified decimal.
const hex = (text) => {
  const [, sign, mantissa, exponent] = /^(-?)0x([01]\.[0-9a-f]+)p([+-]\d+)$/.exec(text);
  const [whole, digits] = mantissa.split(".");
  const fraction = Number.parseInt(digits, 16) / 16 ** digits.length;
  return (sign ? -1 : 1) * (Number(whole) + fraction) * 2 ** Number(exponent);
};

function compare(id, output, got) {
  const wanted = hex(output.float64[0]);
  if (wanted !== Number(output.value[0])) {
    return `${id}: decimal and hexadecimal form of the golden value differ`;
  }
  // one rounding more than the tolerance: the double beside the certified value
  const allowed = (Number(output.tolerance.float64) + 2 ** -53) * Math.abs(wanted);
  const error = Math.abs(got - wanted);
  return error <= allowed ? "" : `${id} ${output.name}: got ${got}, wanted ${output.value[0]}`;
}

const content = JSON.parse(readFileSync(process.argv[2], "utf8"));
const wrong = [];
let checked = 0;
for (const file of content.files) {
  for (const test of file.cases) {
    const implementation = IMPLEMENTED[test.formula];
    if (implementation === undefined || test.flags.includes("whole-trajectory")) continue;
    const answers = implementation(given(test.input));
    for (const output of test.output) {
      if (!(output.name in answers)) continue;
      checked += 1;
      const complaint = compare(test.id, output, answers[output.name]);
      if (complaint) wrong.push(complaint);
    }
  }
}
for (const complaint of wrong) console.log(complaint);
console.log(`${checked} values checked, ${wrong.length} wrong`);
process.exit(checked === 0 ? 2 : wrong.length === 0 ? 0 : 1);
