package integration

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
)

// demo is a running bin/anteroom-demo.
type demo struct {
	dir  string
	port int
	proc *process
	ca   []byte
	home string
}

func startDemo(t testing.TB) *demo {
	t.Helper()
	base := t.TempDir()
	d := &demo{dir: filepath.Join(base, "state"), port: freePort(t), home: filepath.Join(base, "home")}
	if err := os.MkdirAll(d.home, 0o700); err != nil {
		t.Fatal(err)
	}
	d.run(t)
	return d
}

// run starts the demo, again on the same state after it was stopped.
func (d *demo) run(t testing.TB) {
	t.Helper()
	ready := filepath.Join(t.TempDir(), "ready")
	d.proc = start(t, "demo", []string{"HOME=" + d.home, "XDG_DATA_HOME=" + filepath.Join(d.home, "data"), "XDG_CONFIG_HOME=" + filepath.Join(d.home, "config")},
		binary(t, "anteroom-demo"), "--port", strconv.Itoa(d.port), "--dir", d.dir, "--no-browser", "--ready-file", ready)
	d.proc.waitFor(t, 2*patience, func() error {
		_, err := os.Stat(ready)
		return err
	})
	assertLoopback(t, d.proc)
	found, err := filepath.Glob(filepath.Join(d.dir, "caddy", "pki", "authorities", "local", "root.crt"))
	if err != nil || len(found) != 1 {
		t.Fatalf("the demo's root certificate is not in %s", d.dir)
	}
	if d.ca, err = os.ReadFile(found[0]); err != nil {
		t.Fatal(err)
	}
}

func (d *demo) url(host, path string) string {
	return fmt.Sprintf("https://%s:%d%s", host, d.port, path)
}

// matrix says who may use which application; the table of the README.
var matrix = map[string][]string{
	"careconnect": {"patient"},
	"fincare":     {"finance"},
	"medrecords":  {"doctor"},
	"eps":         {"doctor"},
	"medicloud":   {"doctor", "external"},
}

var demoUsers = []string{"patient", "doctor", "finance", "external", "nobody"}

// index is what each sample application answers at /api/.
type index struct {
	Reads  []string
	Writes []struct {
		Path    string
		Example any
	}
}

// TestRoleMatrix: 5 people × 5 applications × page, read and write = 75 decisions of the real binary, and one audit record each.
func TestRoleMatrix(t *testing.T) {
	d := startDemo(t)
	indexes := map[string]index{}
	people := map[string]*browser{} // one browser for all apps, as a person has it
	for _, user := range demoUsers {
		people[user] = newBrowser(t, d.ca)
	}
	for app, roles := range matrix { // who may, tells what there is to read and to write
		b := people[roles[0]]
		if p := b.signInDemo(t, d.url(app+".localhost", "/"), roles[0]); p.Status != http.StatusOK {
			t.Fatalf("%s opens %s: %d\n%s", roles[0], app, p.Status, p.Body)
		}
		p := b.do(t, call(t, "GET", d.url(app+".localhost", "/api/"), ""))
		var found index
		if err := json.Unmarshal([]byte(p.Body), &found); err != nil || len(found.Reads) == 0 || len(found.Writes) == 0 {
			t.Fatalf("%s /api/ (%d): %v\n%s", app, p.Status, err, p.Body)
		}
		indexes[app] = found
	}
	for _, user := range demoUsers {
		for app := range matrix {
			if p := people[user].signInDemo(t, d.url(app+".localhost", "/"), user); p.Status != http.StatusOK && p.Status != http.StatusForbidden {
				t.Fatalf("%s at %s: %d\n%s", user, app, p.Status, p.Body)
			}
		}
	}
	before := len(d.decisions(t))
	decisions := 0
	for _, user := range demoUsers {
		for app, roles := range matrix {
			may := slices.Contains(roles, user)
			write := indexes[app].Writes[0]
			body, err := json.Marshal(write.Example)
			if err != nil {
				t.Fatal(err)
			}
			writePath := strings.ReplaceAll(write.Path, "{id}", "p1001")
			host := app + ".localhost"
			for kind, req := range map[string]*http.Request{
				"page":  navigation(t, "GET", d.url(host, "/"), ""),
				"read":  call(t, "GET", d.url(host, indexes[app].Reads[0]), ""),
				"write": call(t, "POST", d.url(host, writePath), string(body)),
			} {
				decisions++
				t.Run(user+" "+app+" "+kind, func(t *testing.T) {
					p := people[user].do(t, req)
					if hsts := p.Header.Get("Strict-Transport-Security"); hsts != "" {
						t.Errorf("HSTS for a name below localhost, which every developer shares: %s", hsts)
					}
					switch {
					case may && (p.Status < 200 || p.Status > 299):
						t.Errorf("%s %s: %d, want 2xx\n%s", req.Method, req.URL, p.Status, p.Body)
					case !may && p.Status != http.StatusForbidden:
						t.Errorf("%s %s: %d, want 403\n%s", req.Method, req.URL, p.Status, p.Body)
					case !may && kind == "page" && !strings.Contains(p.Body, "Reference number"):
						t.Errorf("the page says no reference number:\n%s", p.Body)
					case !may && kind != "page" && !strings.Contains(p.Body, "urn:anteroom:problem:forbidden"):
						t.Errorf("the answer to a program is %s", p.Body)
					}
				})
			}
		}
	}
	if decisions != 75 {
		t.Fatalf("%d decisions were tried, want 75", decisions)
	}
	records := d.decisions(t)[before:]
	if len(records) != 75 {
		t.Errorf("%d audit records came of 75 decisions", len(records))
	}
	for _, rec := range records {
		app, _, _ := strings.Cut(rec.str("site"), ".")
		user := firstOf(rec, "name", "username", "subject")
		may := slices.Contains(matrix[app], user)
		if want := map[bool]string{true: "allowed", false: "denied"}[may]; rec.str("decision") != want {
			t.Errorf("the audit log says %s of %s at %s: %v", rec.str("decision"), user, app, rec)
		}
	}
}

// signInDemo opens a page; when the provider asks, the person signs in with the own name as password.
func (b *browser) signInDemo(t testing.TB, rawURL, user string) page {
	t.Helper()
	p := b.visit(t, rawURL)
	if strings.Contains(p.Body, `name="username"`) {
		p = b.submit(t, p, map[string]string{"username": user, "password": user})
	}
	return p
}

func firstOf(rec record, names ...string) string {
	for _, name := range names {
		if s := rec.str(name); s != "" {
			return s
		}
	}
	return ""
}

// decisions are the audit records of requests.
func (d *demo) decisions(t testing.TB) []record {
	t.Helper()
	var all []record
	for _, rec := range readAudit(t, filepath.Join(d.dir, "anteroom", "audit")) {
		if rec.str("kind") == "request" {
			all = append(all, rec)
		}
	}
	return all
}

// TestDemoInChromium is a new user's first look, with a picture of each page.
func TestDemoInChromium(t *testing.T) {
	d := startDemo(t)
	c := newChromium(t, d.ca)
	if status := c.navigate(t, d.url("localhost", "/")); status != 200 {
		t.Fatalf("the start page: %d", status)
	}
	text := c.text(t)
	for _, want := range append([]string{"CareConnect", "FinCare", "MedRecords", "EPS", "Medicloud"}, demoUsers...) {
		if !strings.Contains(text, want) {
			t.Errorf("the start page does not speak of %s:\n%s", want, text)
		}
	}
	c.screenshot(t, "1-start")
	c.navigate(t, d.url("medrecords.localhost", "/"))
	c.do(t, "waiting for the form", chromedp.WaitVisible(chromedp.CSS("input[name=username]")))
	c.screenshot(t, "2-provider")
	if status := c.signIn(t, "doctor", "doctor"); status != 200 {
		t.Fatalf("after sign-in: %d at %s\n%s", status, c.location(t), c.text(t))
	}
	if got := c.location(t); got != d.url("medrecords.localhost", "/") {
		t.Errorf("sign-in ends at %s", got)
	}
	c.screenshot(t, "3-medrecords")
	if status := c.navigate(t, d.url("fincare.localhost", "/")); status != http.StatusForbidden {
		t.Errorf("the doctor at FinCare: %d", status)
	}
	c.screenshot(t, "4-forbidden")
	c.navigate(t, d.url("medrecords.localhost", "/.anteroom/"))
	c.waitText(t, "doctor")
	c.screenshot(t, "5-who")
	c.click(t, `form[action="/.anteroom/logout"] button`)
	c.waitText(t, "has ended")
	c.screenshot(t, "6-signed-out")
	c.navigate(t, d.url("medrecords.localhost", "/"))
	c.do(t, "waiting for the form", chromedp.WaitVisible(chromedp.CSS("input[name=username]")))
}
