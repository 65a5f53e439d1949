package integration

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/anteroom-proxy/anteroom/store/redis/redistest"
	cdppage "github.com/chromedp/cdproto/page"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
)

// What people see of the rules, in a real browser: why a page does not open, emergency access without a mouse, and what a script is told.

// shownConfig has a page for each thing that can be missing.
func shownConfig() string {
	closed := time.Now().UTC().Add(12 * time.Hour)
	hours := closed.Format("15:04") + "-" + closed.Add(time.Minute).Format("15:04")
	return strings.NewReplacer("\t\t\trole admin from \"grp-admins\"\n\t\t}\n", "\t\t\trole admin from \"grp-admins\"\n\t\t}\n\t\tcontact \"IT service desk, telephone 4711\"\n",
		"\t\tallow any /members/**\n", `		allow any /members/**
		allow any /network/** network 203.0.113.0/24
		allow any /hours/** hours `+hours+` UTC
		allow any /device/** device known
		allow any /other/** when {user.name == request.host}
		allow any /several/** network 203.0.113.0/24 hours `+hours+` UTC
		break_glass role doctor on /patients/{patient}/** for 30m
		break_glass role doctor on /exercise/{patient}/** for 30m drill
		allow role doctor /beds/{bed}/**
		budget role doctor 2 distinct {bed} per 1h on /beds/{bed}/**
		allow_origin https://wide.test:$PORT https://app.test:$PORT2
`).Replace(hallConfig)
}

// Each reason has words of its own; none of them names a role, a network or an hour.
func TestChromiumWhy(t *testing.T) {
	h := newHall(t, 1, redistest.Standalone(t), shownConfig(), "PORT2", strconv.Itoa(freePort(t)))
	r := h.nodes[0]
	r.dump.respond(t, ward(""))
	r.op.ready(t)
	c := newChromium(t)
	c.navigate(t, r.url(appHost, "/members/one"))
	c.signIn(t, "dana", "dana-pw")
	c.waitText(t, patient)
	for _, page := range []struct{ path, name, heading string }{
		{"/admin/x", "role", "You do not have permission"}, {"/network/x", "network", "This page does not open from here"}, {"/hours/x", "hours", "This page does not open now"},
		{"/device/x", "device", "This browser is not known yet"}, {"/other/x", "other", "This page does not open now"}, {"/several/x", "several", "This page does not open now"},
		{"/nothing", "nothing", "You do not have permission"},
	} {
		if status := c.navigate(t, r.url(appHost, page.path)); status != http.StatusForbidden {
			t.Errorf("%s: %d", page.path, status)
		}
		heading := c.eval(t, `document.querySelector("h1").innerText`)
		if page.name != "role" && page.name != "nothing" && heading != page.heading {
			t.Errorf("%s is headed %q, want %q", page.path, heading, page.heading)
		}
		c.own(t, "why-"+page.name, heading, "heading Who can help", "StaticText IT service desk, telephone 4711", "button Switch user")
		text := c.text(t)
		for _, secret := range []string{"admin", "203.0.113", "UTC", "doctor on", "allow ", "known device", "request.host", "Emergency"} {
			if strings.Contains(text, secret) {
				t.Errorf("%s tells %q:\n%s", page.path, secret, text)
			}
		}
		ref := c.eval(t, `document.querySelector(".ref").innerText`)
		found := false
		for _, rec := range r.audit(t) {
			found = found || rec.str("ref") == ref && rec.str("decision") == "denied"
		}
		if !found {
			t.Errorf("%s: the reference number %q is not in the audit log", page.path, ref)
		}
	}
	for _, bed := range []string{"1", "2"} {
		c.navigate(t, r.url(appHost, "/beds/"+bed+"/chart"))
		c.waitText(t, patient)
	}
	if status := c.navigate(t, r.url(appHost, "/beds/3/chart")); status != http.StatusForbidden {
		t.Errorf("above the budget: %d", status)
	}
	c.own(t, "why-budget", "You have opened unusually many records", "StaticText IT service desk, telephone 4711")
	c.navigate(t, r.url(appHost, "/beds/2/chart"))
	c.waitText(t, patient)
}

// A doctor in a hurry, without a mouse: the refusal, a form with a mistake, the form, the page before the record, the record, the page of
// one's own sign-in, and the end.
func TestChromiumEmergency(t *testing.T) {
	h := newHall(t, 1, redistest.Standalone(t), shownConfig(), "PORT2", strconv.Itoa(freePort(t)))
	r := h.nodes[0]
	r.dump.respond(t, ward(""))
	r.op.ready(t)
	c := newChromium(t)
	c.navigate(t, r.url(appHost, "/members/one"))
	c.signIn(t, "dana", "dana-pw")
	c.waitText(t, patient)
	const record = "/patients/4711/chart?bed=2"
	if status := c.navigate(t, r.url(appHost, record)); status != http.StatusForbidden {
		t.Errorf("the record is answered %d", status)
	}
	heading := c.eval(t, `document.querySelector("h1").innerText`)
	c.own(t, "1-why", heading, "heading Emergency access", "link Emergency access", "heading Who can help")
	c.picture(t, "why")
	c.press(t, "Emergency access")
	c.own(t, "2-form", "Emergency access", "radio Danger to life or health", "textbox In your own words", "checkbox I need the record of patient 4711", "button Begin emergency access", "link Cancel")
	c.fill(t, "Found on the floor, cannot answer. I need allergies and medication.")
	c.picture(t, "emergency")
	c.retype(t, "...........") // the browser finds it long enough, the server finds no words
	c.press(t, "Begin emergency access")
	c.own(t, "3-mistake", "Emergency access", "heading Nothing was begun yet", "link Say a little more", "alert")
	if title := c.eval(t, `document.title`); !strings.HasPrefix(title, "Error: ") {
		t.Errorf("the title of a form with a mistake is %q", title)
	}
	if got := c.eval(t, `[document.querySelector("[name=reason]:checked").value, document.querySelector("[name=confirm]").checked, document.querySelector("#text").getAttribute("aria-invalid")].join(" ")`); got != "life true true" {
		t.Errorf("what was filled in is not there any more: %s", got)
	}
	if got := c.tab(t).navigate(t, r.url(appHost, "/patients/4711/chart")); got != http.StatusForbidden {
		t.Errorf("a form with a mistake opens the record: %d", got)
	}
	c.retype(t, "Found on the floor, cannot answer.")
	c.press(t, "Begin emergency access")
	c.own(t, "4-begun", "You are in emergency access", "StaticText 4711", "link Open the record", "button End emergency access", "status")
	c.picture(t, "emergency-begun")
	if got := c.eval(t, `document.cookie`); strings.Contains(got, "anteroom") {
		t.Errorf("a script sees %q", got)
	}
	c.press(t, "Open the record")
	c.at(t, r.url(appHost, record))
	c.waitText(t, patient)
	c.screenshot(t, "5-record")
	if status := c.navigate(t, r.url(appHost, "/patients/4712/chart")); status != http.StatusForbidden {
		t.Errorf("another record is answered %d", status)
	}
	c.navigate(t, r.url(appHost, "/.anteroom/"))
	c.own(t, "6-who", "You are signed in as Dana Doctor", "heading You are in emergency access", "button End emergency access")
	c.press(t, "End emergency access")
	c.own(t, "7-ended", "Emergency access has ended", "link Go to the application")
	if got := c.tab(t).navigate(t, r.url(appHost, "/patients/4711/chart")); got != http.StatusForbidden {
		t.Errorf("after its end the record is answered %d", got)
	}
	c.navigate(t, r.url(appHost, "/.anteroom/"))
	if text := c.text(t); strings.Contains(text, "emergency access") {
		t.Errorf("an access that has ended is shown:\n%s", text)
	}
	c.navigate(t, r.url(appHost, "/exercise/4711/chart"))
	c.press(t, "Emergency access")
	c.own(t, "8-drill", "Emergency access", "radio Danger to life or health", "radio This is a drill")
}

// fill goes through the form with the keyboard: the first reason, a text, the confirmation.
func (c *chromium) fill(t *testing.T, text string) {
	t.Helper()
	for range 40 {
		c.do(t, "Tab", chromedp.KeyEvent(kb.Tab))
		switch c.eval(t, `document.activeElement.name || ""`) {
		case "reason":
			c.do(t, "choosing", chromedp.KeyEvent(" "))
		case "text":
			c.do(t, "typing", chromedp.KeyEvent(text))
		case "confirm":
			c.do(t, "confirming", chromedp.KeyEvent(" "))
			return
		}
	}
	t.Fatalf("the keyboard does not get through the form:\n%s", c.text(t))
}

// retype writes another text.
func (c *chromium) retype(t *testing.T, text string) {
	t.Helper()
	c.eval(t, `document.querySelector("#text").focus(), document.querySelector("#text").select(), ""`)
	c.do(t, "typing", chromedp.KeyEvent(text))
}

// picture keeps the page as the documentation shows it: as high as what is on it.
func (c *chromium) picture(t testing.TB, name string) {
	t.Helper()
	height := c.eval(t, `document.activeElement.blur(), window.scrollTo(0, 0), String(Math.ceil(document.querySelector("footer").getBoundingClientRect().bottom + 16))`)
	high, err := strconv.ParseInt(height, 10, 64)
	if err != nil {
		t.Fatalf("the height of the page is %s", height)
	}
	c.do(t, "making the window as high as the page", chromedp.EmulateViewport(760, high))
	c.eval(t, `window.scrollTo(0, 0), ""`)
	c.screenshot(t, "docs-"+name)
	c.do(t, "making the window usual again", chromedp.EmulateViewport(1000, 1060))
}

// What a script is told: a close code where a handshake that failed would say nothing, and a status where CORS would hide it.
func TestChromiumScriptsAreTold(t *testing.T) {
	neighbour := freePort(t)
	h := newHall(t, 1, redistest.Standalone(t), shownConfig(), "PORT2", strconv.Itoa(neighbour))
	r := h.nodes[0]
	r.dump.respond(t, ward(""))
	r.op.ready(t)
	serveBlank(t, r, neighbour)
	c := newChromium(t)
	c.navigate(t, r.url(appHost, "/members/one"))
	c.signIn(t, "dana", "dana-pw")
	c.waitText(t, patient)
	closes := func(path string) string {
		return c.promise(t, `new Promise(done => { const s = new WebSocket("wss://" + location.host + "`+path+`"); s.onopen = () => setTimeout(() => done("open"), 10000);
			s.onclose = e => done(e.code + " " + e.reason + " " + e.wasClean); })`)
	}
	asks := func(host, path string) string {
		return c.promise(t, `fetch("`+r.url(host, path)+`", {method: "POST", credentials: "include", headers: {"Content-Type": "application/json", "X-Ward": "7"}, body: "{}"})
			.then(r => r.json().then(p => r.status + " " + p.type), e => "no answer: " + e)`)
	}
	const none, forbidden = "urn:anteroom:problem:no-session", "urn:anteroom:problem:forbidden"
	if got := closes("/admin/ws"); got != "3003 forbidden true" {
		t.Errorf("a WebSocket without permission is closed with %s", got)
	}
	// A page of the same site at another port sends the cookies; one of another site does not.
	for _, page := range []struct{ from, path, want string }{
		{"https://app.test:" + strconv.Itoa(neighbour) + "/", "/admin/x", "403 " + forbidden},
		{r.url(wideHost, "/two"), "/admin/x", "401 " + none},
	} {
		c.navigate(t, page.from)
		if strings.HasPrefix(c.location(t), r.op.issuer) {
			c.signIn(t, "dana", "dana-pw")
		}
		c.until(t, "the page", `document.location.href === "`+page.from+`" && document.readyState === "complete"`)
		if got := asks(appHost, page.path); got != page.want {
			t.Errorf("a page of %s is told %s, want %s", page.from, got, page.want)
		}
	}
	// Nobody listed app.test at wide.test: its script learns nothing.
	c.navigate(t, r.url(appHost, "/members/one"))
	if got := asks(wideHost, "/secret/x"); !strings.HasPrefix(got, "no answer: TypeError") {
		t.Errorf("a page of an origin that is not listed is told %s", got)
	}
	c.navigate(t, r.url(appHost, "/public/help"))
	r.signOut(t, appHost, c.session(t, r.url(appHost, "/")))
	if got := closes("/members/ws"); got != "3000 no-session true" {
		t.Errorf("a WebSocket without a session is closed with %s", got)
	}
}

// serveBlank is another server at the same host: an empty page.
func serveBlank(t testing.TB, r *rig, port int) {
	t.Helper()
	pair, err := tls.LoadX509KeyPair(r.names["$CERT"], r.names["$KEY"])
	if err != nil {
		t.Fatal(err)
	}
	listener, err := tls.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port), &tls.Config{Certificates: []tls.Certificate{pair}})
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		fmt.Fprint(w, `<!doctype html><html lang="en"><title>Neighbour</title><link rel="icon" href="data:,"><h1>Neighbour</h1></html>`)
	}), BaseContext: func(net.Listener) context.Context { return context.Background() }}
	go func() { _ = server.Serve(listener) }() // ends when it is closed
	t.Cleanup(func() { server.Close() })
}

// The matrix of the example is one file: nothing of it is fetched, nothing runs, and a person can read it.
func TestChromiumPolicyMatrix(t *testing.T) {
	path := filepath.Join(t.TempDir(), "matrix.html")
	res := output(t, nil, binary(t, "anteroom"), "policy", "matrix", "-c", filepath.Join(root, "Caddyfile.example"), "-a", "caddyfile", "--html", path)
	if res.code != 0 {
		t.Fatalf("policy matrix: %s%s", res.stdout, res.stderr)
	}
	page, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, bad := range []string{"<script", "src=", "@import", "url(", `rel="stylesheet"`} {
		if strings.Contains(string(page), bad) {
			t.Errorf("the page has %s", bad)
		}
	}
	c := newChromium(t)
	c.navigate(t, "file://"+path)
	c.waitText(t, "careconnect.hospital.example")
	for _, site := range []string{"fincare", "medrecords", "eps", "medicloud"} {
		if !strings.Contains(c.text(t), site+".hospital.example") {
			t.Errorf("%s is not on the page", site)
		}
	}
	const top = `[...document.querySelectorAll("h2")].filter(h => h.innerText.includes(".hospital.example")).map(h => h.getBoundingClientRect().top)`
	c.do(t, "a window as wide as a page", chromedp.EmulateViewport(1000, 900))
	high, err := strconv.ParseInt(c.eval(t, `(tops => String(Math.floor(tops[2] - tops[0])))(`+top+`)`), 10, 64)
	if err != nil || high < 300 {
		t.Fatalf("the first two sites are %d pixels high: %v", high, err)
	}
	c.do(t, "a window as high as the first two sites", chromedp.EmulateViewport(1000, high))
	c.eval(t, `window.scrollTo(0, window.scrollY + `+top+`[0] - 16), ""`)
	c.screenshot(t, "docs-matrix")
	ctx, cancel := context.WithTimeout(c.ctx, patience)
	defer cancel()
	if _, err := chromedp.Call(ctx, cdppage.PrintToPDF, cdppage.PrintToPDFParams{}); err != nil {
		t.Errorf("it cannot be printed: %v", err)
	}
}
