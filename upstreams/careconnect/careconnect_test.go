package careconnect

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

func start(t *testing.T, c Config) http.Handler {
	t.Helper()
	c.Now = func() time.Time { return clock }
	h, err := New(c)
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

func TestPages(t *testing.T) {
	h := start(t, Config{Dir: t.TempDir()})
	for _, path := range []string{"/", "/patients/p1001", "/patients/p1030", "/pin"} {
		w := get(h, path)
		want(t, w, 200, "CareConnect")
		if ct := w.Header().Get("Content-Type"); ct != "text/html; charset=utf-8" {
			t.Errorf("%s: content type %q", path, ct)
		}
		if strings.Contains(w.Body.String(), `name="username"`) || strings.Contains(w.Body.String(), "<script") {
			t.Errorf("%s: a field called username, or a script", path)
		}
	}
	if p := get(h, "/patients/p1001").Body.String(); strings.Contains(p, `type="password"`) {
		t.Error("a page outside /pin asks for a PIN")
	}
	want(t, get(h, "/patients/p9999"), 404, "no such patient")
	want(t, get(h, "/api/patients/p9999/appointments"), 404, `"error"`)
	want(t, send(h, "PUT", "/pin", "", ""), 405, "PUT")
}

func TestFormsPersist(t *testing.T) {
	dir := t.TempDir()
	h := start(t, Config{Dir: dir})
	booking := url.Values{"clinician": {synthetic.Clinicians()[2]}, "at": {"2031-04-01T14:15"}, "reason": {"A <b>sore</b> knee"}}
	w := post(h, "/patients/p1003/appointments", booking)
	want(t, w, 303, "")
	if l := w.Header().Get("Location"); l != "/patients/p1003?done=booked" {
		t.Errorf("Location %q", l)
	}
	want(t, post(h, "/patients/p1004/appointments", booking), 409, "This time is taken")
	want(t, post(h, "/patients/p1003/messages", url.Values{"subject": {"Hello"}, "text": {"one\r\ntwo"}}), 303, "")

	h = start(t, Config{Dir: dir})
	page := get(h, "/patients/p1003?done=booked").Body.String()
	for _, s := range []string{"1 Apr 2031, 14:15", "A &lt;b&gt;sore&lt;/b&gt; knee", "one\ntwo", "Your appointment is booked."} {
		if !strings.Contains(page, s) {
			t.Errorf("after the restart the page lacks %q", s)
		}
	}
}

func TestRefusals(t *testing.T) {
	h := start(t, Config{Dir: t.TempDir()})
	doc := synthetic.Clinicians()[0]
	for _, c := range []struct {
		name   string
		form   url.Values
		status int
		text   string
	}{
		{"past", url.Values{"clinician": {doc}, "at": {"2031-03-05T10:00"}, "reason": {"x"}}, 422, "in the future"},
		{"far", url.Values{"clinician": {doc}, "at": {"2032-03-06T10:00"}, "reason": {"x"}}, 422, "within a year"},
		{"no time", url.Values{"clinician": {doc}, "at": {"soon"}, "reason": {"x"}}, 422, "day and time"},
		{"stranger", url.Values{"clinician": {"Dr. Nobody"}, "at": {"2031-04-01T10:00"}, "reason": {"x"}}, 422, "our clinicians"},
		{"no reason", url.Values{"clinician": {doc}, "at": {"2031-04-01T10:00"}}, 422, "fill in: reason"},
		{"long reason", url.Values{"clinician": {doc}, "at": {"2031-04-01T10:00"}, "reason": {strings.Repeat("x", 121)}}, 422, "shorten: reason"},
	} {
		t.Run(c.name, func(t *testing.T) { want(t, post(h, "/patients/p1001/appointments", c.form), c.status, c.text) })
	}
	want(t, post(h, "/patients/p9/messages", url.Values{"subject": {"x"}, "text": {"x"}}), 404, "no such patient")
	want(t, post(h, "/patients/p1001/messages", url.Values{"subject": {"x"}}), 422, "fill in: message")
	want(t, post(h, "/patients/p1001/messages", url.Values{"text": {strings.Repeat("x", 70_000)}}), 413, "larger")
	want(t, send(h, "POST", "/api/patients/p1001/messages", "text/plain", `{}`), 415, `"error"`)
}

func TestAPI(t *testing.T) {
	h := start(t, Config{Dir: t.TempDir()})
	var index synthetic.Index
	if err := json.Unmarshal(get(h, "/api/").Body.Bytes(), &index); err != nil || index.App != "careconnect" {
		t.Fatalf("index %+v: %v", index, err)
	}
	for _, p := range index.Reads {
		want(t, get(h, strings.Replace(p, "{id}", "p1001", 1)), 200, "p1001")
	}
	for range 2 { // the example of the index can be sent again and again
		json.Unmarshal(get(h, "/api/").Body.Bytes(), &index)
		body, _ := json.Marshal(index.Writes[0].Example)
		want(t, api(h, "/api/patients/p1001/appointments", string(body)), 201, `"status": "booked"`)
	}
	w := api(h, "/api/patients/p1002/appointments", `{"clinician":"`+synthetic.Clinicians()[1]+`","at":"2031-05-01T08:00","reason":"Check-up"}`)
	var a Appointment
	if err := json.Unmarshal(w.Body.Bytes(), &a); err != nil {
		t.Fatal(err)
	}
	path := "/patients/p1002/appointments/" + a.ID + "/cancel"
	want(t, api(h, "/api/patients/p1001/appointments/"+a.ID+"/cancel", "{}"), 404, "no such appointment")
	want(t, api(h, "/api"+path, "{}"), 200, `"status": "cancelled"`)
	want(t, api(h, "/api"+path, "{}"), 409, "cancelled already")
	want(t, post(h, path, nil), 409, "cancelled already")
	want(t, api(h, "/api/patients/p1001/messages", `{"subject":"x","text":"y"}`), 201, `"from": "patient"`)
	want(t, api(h, "/api/patients/p1001/messages", `{"subject":"x","text":"y","from":"care team"}`), 400, "unknown field")
}

func TestPastAppointmentStays(t *testing.T) {
	h := start(t, Config{Dir: t.TempDir()})
	var list []Appointment
	if err := json.Unmarshal(get(h, "/api/patients/p1001/appointments").Body.Bytes(), &list); err != nil || len(list) != 2 {
		t.Fatalf("%d appointments: %v", len(list), err)
	}
	want(t, post(h, "/patients/p1001/appointments/"+list[0].ID+"/cancel", nil), 409, "is over")
	want(t, post(h, "/patients/p1001/appointments/"+list[1].ID+"/cancel", nil), 303, "")
}

func TestDamagedState(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "careconnect.json")
	if err := os.WriteFile(path, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := New(Config{Dir: dir}); err == nil || !strings.Contains(err.Error(), path) {
		t.Errorf("error %v does not name %s", err, path)
	}
}
