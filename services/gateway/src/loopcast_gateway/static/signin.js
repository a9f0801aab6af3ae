// Who is asked for a token, where the gateway asks for one.

import { $ } from "./dom.js";

export class SignIn {
  times = 0; // how often somebody signed in

  /** `onIn` when somebody has signed in, `onOut` when somebody left, `onAsk` when the page may go on with nothing. */
  constructor({ onIn, onOut, onAsk, say }) {
    this.onAsk = onAsk;
    $("signin").addEventListener("cancel", (event) => event.preventDefault());
    $("signin").addEventListener("submit", async (event) => {
      event.preventDefault();
      if (await this.#give($("token").value.trim())) onIn();
    });
    $("signout").onclick = async () => {
      const answer = await fetch("/v1/session", { method: "DELETE" }).catch(() => null);
      if (!answer?.ok) {
        say("The gateway does not answer: you are still signed in.");
        return;
      }
      $("refused").textContent = "";
      onOut();
      this.ask();
    };
  }

  ask() {
    if ($("signin").open) return;
    this.onAsk();
    for (const id of ["user", "signout"]) $(id).hidden = true;
    $("signin").showModal();
  }

  /** `session` is who is here; where nobody is asked, there is nobody to sign out. */
  name(session) {
    $("signout").hidden = !(session?.user || session?.expires);
    $("user").hidden = !session?.user;
    $("user").textContent = $("user").title = session?.user ?? "";
  }

  async #give(token) {
    const headers = { Authorization: `Bearer ${token}` };
    const answer = await fetch("/v1/session", { method: "POST", headers }).catch(() => null);
    const problem = answer?.ok ? null : await answer?.json().catch(() => null);
    $("refused").textContent = answer?.ok ? "" : (problem?.detail ?? "The gateway does not answer.");
    if (!answer?.ok) return false;
    this.times += 1;
    $("token").value = "";
    $("signin").close();
    return true;
  }
}
