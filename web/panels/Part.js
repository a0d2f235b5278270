/** A part of the page that may fail without the rest. */

import { Component, html } from "../vendor/flow.js";

/** Draws its children; what fails in them is told in their place, with a way to try again. */
export class Part extends Component {
  /** @param {{children?: any}} props */
  constructor(props) {
    super(props);
    /** @type {{error: Error | null}} */
    this.state = { error: null };
  }

  /** @param {Error} error */
  static getDerivedStateFromError(error) {
    return { error };
  }

  render() {
    const { error } = /** @type {{error: Error | null}} */ (this.state);
    if (!error) return /** @type {any} */ (this.props).children;
    return html`<div class="empty" role="alert"><p>This part of the page failed: ${error.message}</p>
      <button class="button" onClick=${() => this.setState({ error: null })}>Try again</button></div>`;
  }
}
