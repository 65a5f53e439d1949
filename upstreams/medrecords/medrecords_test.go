package medrecords

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/anteroom-proxy/anteroom/upstreams/synthetic"
)

var clock = time.Date(2031, 3, 5, 10, 0, 0, 0, time.UTC)

func start(t *testing.T, dir string) http.Handler {
	t.Helper()
	h, err := New(Config{Dir: dir, Now: func() time.Time { return clock }})
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func send(h http.Handler, method, path, ctype, body string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, path, strings.NewReader(body))
	if ctype != "" {
		r.Header.Set("Content-Type", ctype)
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

func get(h http.Handler, path string) *httptest.ResponseRecorder { return send(h, "GET", path, "", "") }

func post(h http.Handler, path string, form url.Values) *httptest.ResponseRecorder {
	return send(h, "POST", path, "application/x-www-form-urlencoded", form.Encode())
}

// want reports an answer of another status, or one without the text.
func want(t *testing.T, w *httptest.ResponseRecorder, status int, text string) {
	t.Helper()
	if w.Code != status || !strings.Contains(w.Body.String(), text) {
		t.Errorf("got %d, want %d with %q:\n%s", w.Code, status, text, w.Body)
	}
}

func TestPages(t *testing.T) {
	h := start(t, t.TempDir())
	for _, path := range []string{"/", "/patients", "/patients/p1001", "/patients/p1030", "/?q=%3Cb%3E"} {
		w := get(h, path)
		want(t, w, 200, "MedRecords")
		for _, bad := range []string{`name="username"`, "<script", "<b>"} {
			if strings.Contains(w.Body.String(), bad) {
				t.Errorf("%s shows %s", path, bad)
			}
		}
	}
	p := synthetic.Patients()[6]
	for _, q := range []string{p.ID, p.Family, strings.ToUpper(p.Given), p.Given + " " + p.Family} {
		want(t, get(h, "/?q="+url.QueryEscape(q)), 200, `href="/patients/`+p.ID+`"`)
	}
	want(t, get(h, "/?q=zzzz"), 200, "Nobody found")
	want(t, get(h, "/patients/p0"), 404, "no such patient")
	want(t, get(h, "/patients/p1001/encounters"), 405, "GET")
}

func TestFormsPersist(t *testing.T) {
	dir := t.TempDir()
	h := start(t, dir)
	doc := synthetic.Clinicians()[3]
	want(t, post(h, "/patients/p1008/encounters", url.Values{"clinician": {doc}, "diagnosis": {"G43.9"}, "note": {"<u>Aura</u>\nno fever"}}), 303, "")
	want(t, post(h, "/patients/p1008/allergies", url.Values{"substance": {"Walnut & co"}, "reaction": {"Hives"}, "severity": {"severe"}}), 303, "")
	w := post(h, "/patients/p1008/observations", url.Values{"code": {"8310-5"}, "value": {"37.4"}})
	want(t, w, 303, "")
	if l := w.Header().Get("Location"); l != "/patients/p1008?done=observation" {
		t.Errorf("Location %q", l)
	}
	h = start(t, dir)
	page := get(h, "/patients/p1008?done=observation").Body.String()
	for _, s := range []string{"&lt;u&gt;Aura&lt;/u&gt;\nno fever", "G43.9 Migraine", "Walnut &amp; co", "37.4", "5 Mar 2031, 10:00", "The observation is in the chart."} {
		if !strings.Contains(page, s) {
			t.Errorf("after the restart the page lacks %q", s)
		}
	}
}

func TestRefusals(t *testing.T) {
	dir := t.TempDir()
	h := start(t, dir)
	before, _ := os.ReadFile(filepath.Join(dir, "medrecords.json"))
	doc := synthetic.Clinicians()[0]
	for _, c := range []struct {
		path   string
		form   url.Values
		status int
		text   string
	}{
		{"p1001/encounters", url.Values{"clinician": {"x"}, "diagnosis": {"I10"}, "note": {"x"}}, 422, "our clinicians"},
		{"p1001/encounters", url.Values{"clinician": {doc}, "diagnosis": {"X99"}, "note": {"x"}}, 422, "diagnosis from the list"},
		{"p1001/encounters", url.Values{"clinician": {doc}, "diagnosis": {"I10"}}, 422, "fill in: note"},
		{"p77/encounters", url.Values{"clinician": {doc}, "diagnosis": {"I10"}, "note": {"x"}}, 404, "no such patient"},
		{"p1001/allergies", url.Values{"reaction": {"x"}, "severity": {"mild"}}, 422, "fill in: substance"},
		{"p1001/allergies", url.Values{"substance": {"a\nb"}, "reaction": {"x"}, "severity": {"mild"}}, 422, "on one line"},
		{"p1001/allergies", url.Values{"substance": {"a"}, "reaction": {"x"}, "severity": {"huge"}}, 422, "how severe"},
		{"p77/allergies", url.Values{"substance": {"a"}, "reaction": {"x"}, "severity": {"mild"}}, 404, "no such patient"},
		{"p1001/observations", url.Values{"code": {"8310-5"}, "value": {"warm"}}, 422, "as a number"},
		{"p1001/observations", url.Values{"code": {"8310-5"}, "value": {"NaN"}}, 422, "between 25 and 45"},
		{"p1001/observations", url.Values{"code": {"8310-5"}, "value": {"Inf"}}, 422, "between 25 and 45"},
		{"p1001/observations", url.Values{"code": {"8310-5"}, "value": {"374"}}, 422, "between 25 and 45"},
		{"p1001/observations", url.Values{"code": {"none"}, "value": {"1"}}, 422, "what was measured"},
		{"p77/observations", url.Values{"code": {"8310-5"}, "value": {"37"}}, 404, "no such patient"},
	} {
		want(t, post(h, "/patients/"+c.path, c.form), c.status, c.text)
	}
	if after, _ := os.ReadFile(filepath.Join(dir, "medrecords.json")); string(after) != string(before) {
		t.Error("a refused form changed the state")
	}
}

func TestAPI(t *testing.T) {
	h := start(t, t.TempDir())
	var index synthetic.Index
	if err := json.Unmarshal(get(h, "/api/").Body.Bytes(), &index); err != nil || index.App != "medrecords" {
		t.Fatalf("index %+v: %v", index, err)
	}
	for _, p := range index.Reads {
		want(t, get(h, strings.Replace(p, "{id}", "p1001", 1)), 200, "")
		if strings.Contains(p, "{id}") {
			want(t, get(h, strings.Replace(p, "{id}", "p1", 1)), 404, `"error"`)
		}
	}
	for _, c := range index.Writes {
		body, _ := json.Marshal(c.Example)
		path := strings.Replace(c.Path, "{id}", "p1001", 1)
		w := send(h, "POST", path, "application/json", string(body))
		want(t, w, 201, `"patient": "p1001"`)
		if w.Header().Get("Location") != path {
			t.Errorf("Location %q, want %q", w.Header().Get("Location"), path)
		}
		want(t, send(h, "POST", path, "application/json", `{"id":"x"}`), 400, "unknown field")
	}
	want(t, send(h, "POST", "/api/patients/p1001/allergies", "application/json", `{"substance":"STRAWBERRY","reaction":"x","severity":"mild"}`), 409, "already")
	var c Chart
	if err := json.Unmarshal(get(h, "/api/patients/p1001").Body.Bytes(), &c); err != nil {
		t.Fatal(err)
	}
	if c.Encounters[0].Diagnosis.Code != "I10" || c.Observations[0].Value != 72 || c.Observations[0].Unit != "/min" {
		t.Errorf("the newest entries are not first: %+v, %+v", c.Encounters[0], c.Observations[0])
	}
}

func TestSeedIsPlausible(t *testing.T) {
	r, again := first(clock), first(clock)
	a, _ := json.Marshal(r)
	b, _ := json.Marshal(again)
	if string(a) != string(b) {
		t.Error("two new installations differ")
	}
	limits := map[string]synthetic.Measure{}
	for _, m := range synthetic.Measures() {
		limits[m.Code] = m
	}
	for _, o := range r.Observations {
		if m := limits[o.Code]; o.Value < m.Min || o.Value > m.Max || o.At.After(clock) {
			t.Errorf("implausible: %+v", o)
		}
	}
}

func TestDamagedState(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "medrecords.json")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := New(Config{Dir: dir}); err == nil || !strings.Contains(err.Error(), path) {
		t.Errorf("error %v does not name %s", err, path)
	}
}
