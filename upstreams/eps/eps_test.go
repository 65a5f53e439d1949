package eps

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
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

func api(h http.Handler, path, body string) *httptest.ResponseRecorder {
	return send(h, "POST", path, "application/json", body)
}

// want reports an answer of another status, or one without the text.
func want(t *testing.T, w *httptest.ResponseRecorder, status int, text string) {
	t.Helper()
	if w.Code != status || !strings.Contains(w.Body.String(), text) {
		t.Errorf("got %d, want %d with %q:\n%s", w.Code, status, text, w.Body)
	}
}

// example returns the index's own example of a prescription.
func example(t *testing.T, h http.Handler) (synthetic.Index, string) {
	t.Helper()
	var index synthetic.Index
	if err := json.Unmarshal(get(h, "/api/").Body.Bytes(), &index); err != nil || index.App != "eps" {
		t.Fatalf("index %+v: %v", index, err)
	}
	body, err := json.Marshal(index.Writes[0].Example)
	if err != nil {
		t.Fatal(err)
	}
	return index, string(body)
}

// issueOne returns the identifier of a new prescription.
func issueOne(t *testing.T, h http.Handler) string {
	t.Helper()
	_, body := example(t, h)
	var n Prescription
	w := api(h, "/api/prescriptions", body)
	if err := json.Unmarshal(w.Body.Bytes(), &n); err != nil || w.Code != 201 || n.Status != issued {
		t.Fatalf("issuing: %d %v %s", w.Code, err, w.Body)
	}
	if l := w.Header().Get("Location"); l != "/api/prescriptions/"+n.ID {
		t.Errorf("Location %q", l)
	}
	return n.ID
}

func TestPages(t *testing.T) {
	h := start(t, t.TempDir())
	for _, path := range []string{"/", "/prescriptions", "/?status=issued&patient=p1001", "/prescriptions/rx6001"} {
		w := get(h, path)
		want(t, w, 200, "EPS")
		if strings.Contains(w.Body.String(), `name="username"`) || strings.Contains(w.Body.String(), "<script") {
			t.Errorf("%s: a field called username, or a script", path)
		}
	}
	want(t, get(h, "/prescriptions/rx1"), 404, "no such prescription")
	want(t, send(h, "DELETE", "/prescriptions/rx6001", "", ""), 405, "DELETE")
}

func TestFormsPersist(t *testing.T) {
	dir := t.TempDir()
	h := start(t, dir)
	w := post(h, "/prescriptions", url.Values{"patient": {"p1010"}, "prescriber": {synthetic.Clinicians()[1]}, "drug": {"J01CA04"}, "dose": {"1 <three> times"}, "packs": {"2"}})
	want(t, w, 303, "")
	path, _, _ := strings.Cut(w.Header().Get("Location"), "?")
	want(t, post(h, path+"/cancel", url.Values{"reason": {"Allergy & rash"}}), 303, "")

	h = start(t, dir)
	page := get(h, path+"?done=cancelled").Body.String()
	for _, s := range []string{"1 &lt;three&gt; times", "Amoxicillin", "Allergy &amp; rash", "can no longer be changed", "The prescription is cancelled."} {
		if !strings.Contains(page, s) {
			t.Errorf("after the restart the page lacks %q", s)
		}
	}
}

func TestTransitions(t *testing.T) {
	h := start(t, t.TempDir())
	act := func(id, action string) *httptest.ResponseRecorder {
		return api(h, "/api/prescriptions/"+id+"/"+action, map[string]string{"dispense": `{}`, "cancel": `{"reason":"x"}`}[action])
	}
	for _, c := range []struct{ first, then, text string }{
		{"dispense", "dispense", "dispensed already"},
		{"dispense", "cancel", "dispensed already and cannot be cancelled"},
		{"cancel", "cancel", "cancelled already"},
		{"cancel", "dispense", "cancelled already and cannot be dispensed"},
	} {
		id := issueOne(t, h)
		want(t, act(id, c.first), 200, `"status"`)
		want(t, act(id, c.then), 409, c.text)
		want(t, post(h, "/prescriptions/"+id+"/"+c.then, url.Values{"reason": {"x"}}), 409, "already")
	}
	id := issueOne(t, h)
	want(t, api(h, "/api/prescriptions/"+id+"/cancel", `{}`), 422, "fill in: reason")
	want(t, get(h, "/api/prescriptions/"+id), 200, `"issued"`)
	want(t, act("none", "dispense"), 404, "no such prescription")
	want(t, act("none", "cancel"), 404, "no such prescription")
	want(t, api(h, "/api/prescriptions/"+id+"/reopen", `{}`), 404, "nothing at this address")
}

func TestOneOfManyDispenses(t *testing.T) {
	h := start(t, t.TempDir())
	id := issueOne(t, h)
	var taken atomic.Int32
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			if api(h, "/api/prescriptions/"+id+"/dispense", `{}`).Code == 200 {
				taken.Add(1)
			}
		})
	}
	wg.Wait()
	if taken.Load() != 1 {
		t.Errorf("dispensed %d times", taken.Load())
	}
}

func TestRefusals(t *testing.T) {
	h := start(t, t.TempDir())
	good := url.Values{"patient": {"p1010"}, "prescriber": {synthetic.Clinicians()[1]}, "drug": {"J01CA04"}, "dose": {"1"}, "packs": {"2"}}
	for _, c := range []struct{ field, value, text string }{
		{"patient", "p99", "no such patient"}, {"prescriber", "me", "our clinicians"}, {"drug", "X", "drug from the list"},
		{"dose", " ", "fill in: dose"}, {"dose", strings.Repeat("x", 121), "shorten: dose"},
		{"packs", "0", "one to twelve"}, {"packs", "13", "one to twelve"}, {"packs", "-1", "one to twelve"}, {"packs", "many", "one to twelve"}, {"packs", "1e1", "one to twelve"},
	} {
		form := url.Values{}
		for k, v := range good {
			form[k] = v
		}
		form.Set(c.field, c.value)
		want(t, post(h, "/prescriptions", form), 422, c.text)
	}
	want(t, post(h, "/prescriptions", good), 303, "")
}

func TestAPI(t *testing.T) {
	h := start(t, t.TempDir())
	index, body := example(t, h)
	for _, p := range index.Reads {
		want(t, get(h, strings.Replace(p, "{id}", "rx6001", 1)), 200, "")
	}
	want(t, api(h, "/api/prescriptions", strings.Replace(body, "{", `{"status":"dispensed",`, 1)), 400, "unknown field")
	want(t, send(h, "POST", "/api/prescriptions", "application/x-www-form-urlencoded", body), 415, "application/json")
	var list []Prescription
	if err := json.Unmarshal(get(h, "/api/prescriptions?status=cancelled").Body.Bytes(), &list); err != nil || len(list) == 0 {
		t.Fatalf("%d cancelled: %v", len(list), err)
	}
	for _, n := range list {
		if n.Status != cancelled || n.Reason == "" || n.Changed.Before(n.Issued) || n.Changed.After(clock) {
			t.Errorf("implausible: %+v", n)
		}
	}
}

func TestDamagedState(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "eps.json")
	if err := os.WriteFile(path, []byte("[]"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := New(Config{Dir: dir}); err == nil || !strings.Contains(err.Error(), path) {
		t.Errorf("error %v does not name %s", err, path)
	}
}
