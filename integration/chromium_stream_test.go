package integration

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"net"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/anteroom-proxy/anteroom/audit"
	"github.com/anteroom-proxy/anteroom/store/redis/redistest"
	"github.com/chromedp/cdproto/accessibility"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
)

// tab opens one more tab of the same browser.
func (c *chromium) tab(t testing.TB) *chromium {
	t.Helper()
	ctx, stop := chromedp.NewContext(c.ctx)
	t.Cleanup(stop)
	if err := chromedp.Do(ctx); err != nil {
		t.Fatalf("a second tab: %v", err)
	}
	return &chromium{ctx: ctx, shots: c.shots}
}

// promise evaluates an expression and waits for the string that it promises.
func (c *chromium) promise(t testing.TB, js string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(c.ctx, patience)
	defer cancel()
	s, err := chromedp.Run(ctx, chromedp.Evaluate[string](js, chromedp.EvalAwaitPromise))
	if err != nil {
		t.Fatalf("Chromium: %s: %v", js, err)
	}
	return s
}

// fetch is the status of an answer to the page's own script.
func (c *chromium) fetch(t testing.TB, path string) string {
	t.Helper()
	return c.promise(t, `fetch("`+path+`", {headers: {Accept: "application/json"}, cache: "no-store"}).then(r => String(r.status))`)
}

// until waits until an expression is true.
func (c *chromium) until(t testing.TB, what, js string) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for got := ""; got != "true"; got = c.eval(t, `String(`+js+`)`) {
		if time.Now().After(deadline) {
			c.screenshot(t, "failed")
			t.Fatalf("Chromium: %s: waiting for %s: %s; the page is %s:\n%s", what, js, got, c.location(t), c.text(t))
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// at waits until the page of an address is there.
func (c *chromium) at(t testing.TB, rawURL string) {
	t.Helper()
	c.until(t, "the end of the way", `document.location.href === "`+rawURL+`" && document.readyState === "complete"`)
}

// A viewer that is left open on a ward ends when the session is ended, at whatever node: the page is told so with close code
// 1008 within a second, and the end stands in the audit log.
func TestChromiumStreamsCut(t *testing.T) {
	h := newHall(t, 2, redistest.Standalone(t), hallConfig)
	r := h.nodes[0]
	r.dump.respond(t, ward(""))
	r.op.ready(t)
	c, other := newChromium(t), newChromium(t)
	for _, c := range []*chromium{c, other} {
		c.navigate(t, r.url(appHost, "/members/viewer"))
		c.signIn(t, "dana", "dana-pw")
		c.waitText(t, patient)
		c.openStreams(t)
	}
	id := audit.SessionLabel(c.sid(t, r))
	res := output(t, h.nodes[1].env(), binary(t, "anteroom"), "sessions", "end", "--address", h.nodes[1].adminSocket(), "--", id)
	if res.code != 0 {
		t.Fatalf("ending the session at the other node: %s%s", res.stdout, res.stderr)
	}
	acknowledged := startWatch()
	c.until(t, "the end of both streams", `ws.code !== 0 && sse.source.readyState === EventSource.CLOSED`)
	c.screenshot(t, "1-cut")
	if got := c.eval(t, `ws.code + " " + ws.clean`); got != "1008 true" {
		t.Errorf("close code, and whether the WebSocket was closed in order: %s, want 1008 true", got)
	}
	for what, js := range map[string]string{"WebSocket": `String(ws.at)`, "stream of events": `String(sse.at)`} {
		at, err := strconv.ParseInt(c.eval(t, js), 10, 64)
		took := time.UnixMilli(at).Sub(acknowledged.began)
		if err != nil || acknowledged.over(took, time.Second) {
			t.Errorf("the %s ended %v after the end of the session was acknowledged, %v", what, took, err)
		}
		t.Logf("the %s ended %v after the end of the session was acknowledged", what, took)
	}
	other.stillOpen(t) // another session of the same person
	ended := 0
	for _, e := range r.audit(t) {
		if e.str("kind") == "stream" && e.str("session") == id && e.str("decision") == "ended" && e.str("reason") == "revoked" {
			ended++
		}
	}
	if ended != 2 {
		t.Errorf("%d of 2 streams stand in the audit log as ended", ended)
	}
	c.click(t, "#next")
	c.askedAgain(t, r)
}

// adminSocket is where the node's subcommands find it.
func (r *rig) adminSocket() string { return "unix/" + filepath.Join(r.dir, "admin.sock") }

// sid is the session's own id, which only the token holds.
func (c *chromium) sid(t testing.TB, r *rig) string {
	t.Helper()
	s := c.session(t, r.url(appHost, "/"))
	if s == nil {
		t.Fatalf("the browser holds no session at %s", c.location(t))
	}
	var claims struct{ SID string }
	part := strings.Split(s.token, ".")
	if b, err := base64.RawURLEncoding.DecodeString(part[min(1, len(part)-1)]); err != nil || json.Unmarshal(b, &claims) != nil || claims.SID == "" {
		t.Fatalf("the token %q names no session", s.token)
	}
	return claims.SID
}

// watcher is an application that warns before the end, with the script that the portal's documentation gives.
func watcher(r *received, conn net.Conn) {
	reply(conn, "200 OK", "Content-Type: text/html; charset=utf-8", `<!doctype html><html lang="en"><title>Ward</title><link rel="icon" href="data:,">
<h1>Ward list</h1><p>`+patient+`</p><p role="status" id="warning"></p><p id="left"></p><script>
const left = [], warning = document.getElementById("warning");
async function poll() {
	const r = await fetch("/.anteroom/session", {headers: {Accept: "application/json"}, cache: "no-store"});
	if (r.status === 401) { warning.textContent = "You are signed out."; return; }
	if (r.ok) {
		const s = await r.json();
		left.push(s.idle_seconds);
		document.getElementById("left").textContent = left.join(" ");
		if (Math.min(s.idle_seconds, s.absolute_seconds) < 30) warning.textContent = "You will be signed out soon.";
	}
	setTimeout(poll, 500);
}
poll();
</script></html>`)
}

// A page asks twice a second how long the session lasts. That is no use of the session: it ends when it would have ended, and the page
// has warned before.
func TestChromiumWarning(t *testing.T) {
	t.Parallel() // a minute of waiting
	r := newRig(t, strings.Replace(standard, "\tanteroom {", "\tanteroom {\n\t\tsession {\n\t\t\tidle 1m\n\t\t\tabsolute 1h\n\t\t}", 1))
	r.dump.respond(t, watcher)
	r.op.ready(t)
	c := newChromium(t)
	c.navigate(t, r.url(appHost, "/members/one"))
	c.signIn(t, "dana", "dana-pw")
	began := startWatch()
	c.until(t, "some answers", `left.length > 12`)
	c.waitText(t, "You will be signed out soon.")
	c.screenshot(t, "1-warned")
	c.waitText(t, "You are signed out.")
	if took := began.elapsed(); began.over(took, 65*time.Second) {
		t.Errorf("polling kept the session alive for %v, its idle time is 1m", took)
	}
	var seconds []int
	if err := json.Unmarshal([]byte(c.eval(t, `JSON.stringify(left)`)), &seconds); err != nil {
		t.Fatal(err)
	}
	if first, last := seconds[0], seconds[len(seconds)-1]; first < 45 || first > 60 || last > 10 || !slices.IsSortedFunc(seconds, func(a, b int) int { return b - a }) {
		t.Errorf("the seconds left do not go down from 60 to 0: %v", seconds)
	}
}

// asked waits until the provider asks who is there.
func (c *chromium) asked(t testing.TB, r *rig) {
	t.Helper()
	c.until(t, "the provider's form", `document.location.href.startsWith("`+r.op.issuer+`/interaction/") && document.querySelector("input[name=password]") !== null`)
}

// askedAgain waits until the provider asks although it may remember somebody.
func (c *chromium) askedAgain(t testing.TB, r *rig) {
	t.Helper()
	c.asked(t, r)
	c.waitText(t, "Please sign in again.")
}

// openStreams lets the page open a WebSocket and a stream of events, and waits until both have spoken.
func (c *chromium) openStreams(t testing.TB) {
	t.Helper()
	c.eval(t, `(() => {
		window.ws = {ticks: 0, code: 0, at: 0};
		const socket = new WebSocket("wss://" + location.host + "/members/ws");
		socket.onmessage = () => ws.ticks++;
		socket.onclose = e => { ws.code = e.code; ws.clean = e.wasClean; ws.at = Date.now(); };
		window.sse = {ticks: 0, at: 0, source: new EventSource("/members/sse")};
		sse.source.onmessage = () => sse.ticks++;
		sse.source.onerror = () => { sse.at = sse.at || Date.now(); };
		return "";
	})()`)
	c.until(t, "opening the streams", `ws.ticks > 0 && sse.ticks > 0`)
}

// stillOpen fails when one of the two streams has ended.
func (c *chromium) stillOpen(t testing.TB) {
	t.Helper()
	before := c.eval(t, `String(ws.ticks)`)
	c.until(t, "going on", `ws.code !== 0 || ws.ticks > 2 + `+before)
	if got := c.eval(t, `ws.code + " " + sse.at`); got != "0 0" {
		t.Errorf("the page's streams were cut: close code and time of the end of events: %s", got)
	}
}

// own checks a page of ours as a person reads it who does not see it, and keeps a picture. Each of want is "role name": a node of
// the accessibility tree whose name begins so.
func (c *chromium) own(t *testing.T, name, heading string, want ...string) {
	t.Helper()
	c.until(t, heading, `document.readyState === "complete" && document.querySelector("h1") !== null`)
	nodes, nameless := c.tree(t)
	if !slices.Contains(nodes, "heading "+heading) {
		c.screenshot(t, "failed")
		t.Fatalf("the page at %s has no heading %q:\n%s", c.location(t), heading, strings.Join(nodes, "\n"))
	}
	for _, w := range want {
		if !slices.ContainsFunc(nodes, func(n string) bool { return strings.HasPrefix(n, w) }) {
			t.Errorf("the page %q has no %q:\n%s", heading, w, strings.Join(nodes, "\n"))
		}
	}
	if len(nameless) > 0 {
		t.Errorf("the page %q has controls without a name: %v", heading, nameless)
	}
	if got := c.eval(t, `[document.documentElement.lang, document.querySelectorAll("h1").length, document.querySelectorAll("main").length,
		new Set([...document.querySelectorAll("[id]")].map(e => e.id)).size === document.querySelectorAll("[id]").length,
		document.scripts.length, document.title.length > 10].join(" ")`); got != "en 1 1 true 0 true" {
		t.Errorf("language, h1, main, ids differ, scripts, title of the page %q: %s", heading, got)
	}
	c.screenshot(t, name)
	// WCAG 2.2, 1.4.10: at 320 pixels nothing has to be scrolled sideways.
	c.do(t, "making the window narrow", chromedp.EmulateViewport(320, 800))
	if got := c.eval(t, `String(document.documentElement.scrollWidth)`); got != "320" {
		t.Errorf("the page %q is %s pixels wide in a window of 320", heading, got)
	}
	c.screenshot(t, name+"-narrow")
	c.do(t, "making the window wide again", chromedp.EmulateViewport(1000, 1060))
}

// tree lists the page's accessibility tree as "role name", and the controls that have no name.
func (c *chromium) tree(t testing.TB) (nodes, nameless []string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(c.ctx, patience)
	defer cancel()
	all, err := chromedp.Call(ctx, accessibility.GetFullAXTree, accessibility.GetFullAXTreeParams{})
	if err != nil {
		t.Fatal(err)
	}
	text := func(v *accessibility.Value) (s string) {
		if v != nil && json.Unmarshal(v.Value, &s) != nil {
			s = string(v.Value)
		}
		return s
	}
	for _, n := range all.Nodes {
		role, name := text(n.Role), strings.TrimSpace(text(n.Name))
		if n.Ignored || role == "InlineTextBox" {
			continue
		}
		if name == "" && slices.Contains([]string{"button", "link", "heading", "textbox", "region", "navigation"}, role) {
			nameless = append(nameless, role)
		}
		nodes = append(nodes, role+" "+name)
	}
	return nodes, nameless
}

// press goes with the Tab key to the control whose text begins so, sees that it can be seen there, and presses Enter.
func (c *chromium) press(t *testing.T, text string) {
	t.Helper()
	for range 30 {
		c.do(t, "Tab", chromedp.KeyEvent(kb.Tab))
		if !strings.HasPrefix(c.eval(t, `document.activeElement.innerText`), text) {
			continue
		}
		if got := c.eval(t, `(s => s.outlineStyle + " " + (parseFloat(s.outlineWidth) >= 2))(getComputedStyle(document.activeElement))`); got != "solid true" {
			t.Errorf("who goes to %q with the keyboard does not see where they are: outline %s", text, got)
		}
		ctx, cancel := context.WithTimeout(c.ctx, patience)
		defer cancel()
		if _, err := chromedp.RunResponse(ctx, chromedp.KeyEvent(kb.Enter)); err != nil {
			t.Fatalf("Chromium: Enter on %q: %v", text, err)
		}
		return
	}
	c.screenshot(t, "failed")
	t.Fatalf("the keyboard does not reach %q at %s:\n%s", text, c.location(t), c.text(t))
}

// session is what the browser holds for a site: nil without both cookies.
func (c *chromium) session(t testing.TB, siteURL string) *session {
	t.Helper()
	ctx, cancel := context.WithTimeout(c.ctx, patience)
	defer cancel()
	res, err := chromedp.Call(ctx, network.GetCookies, network.GetCookiesParams{URLs: []string{siteURL}})
	if err != nil {
		t.Fatal(err)
	}
	s := &session{user: "dana"}
	for _, cookie := range res.Cookies {
		switch cookie.Name {
		case cookieToken:
			s.token = cookie.Value
		case cookieContext:
			s.context = cookie.Value
		}
	}
	if s.token == "" || s.context == "" {
		return nil
	}
	return s
}

// disguise lets the browser call itself something else from now on.
func (c *chromium) disguise(t testing.TB, agent string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(c.ctx, patience)
	defer cancel()
	if _, err := chromedp.Call(ctx, emulation.SetUserAgentOverride, emulation.SetUserAgentOverrideParams{UserAgent: agent}); err != nil {
		t.Fatal(err)
	}
}
