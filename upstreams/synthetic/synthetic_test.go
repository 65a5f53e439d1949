package synthetic

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"time"
)

func TestPatientsAreStable(t *testing.T) {
	list := Patients()
	if len(list) != 30 {
		t.Fatalf("%d patients, want 30", len(list))
	}
	names, clinics := map[string]bool{}, Clinicians()
	for i, p := range list {
		if got, ok := FindPatient(p.ID); !ok || got != p {
			t.Errorf("FindPatient(%s) = %v, %v", p.ID, got, ok)
		}
		born, err := time.Parse(Day, p.Born)
		if err != nil || born.Year() < 1930 || born.Year() > 2010 {
			t.Errorf("%s: born %q: %v", p.ID, p.Born, err)
		}
		if !strings.HasPrefix(p.Phone, "01632 960") {
			t.Errorf("%s: telephone number %s is not from the range for drama", p.ID, p.Phone)
		}
		if !strings.Contains(strings.Join(clinics, "\n"), p.Doctor) || p.Insurer == "" {
			t.Errorf("patient %d is incomplete: %+v", i, p)
		}
		names[p.Name()] = true
	}
	if len(names) != 30 {
		t.Errorf("%d different names, want 30", len(names))
	}
	if first := list[0]; first.ID != "p1001" {
		t.Errorf("first patient is %s, want p1001", first.ID)
	}
	if a, b := Rand("x").Uint64(), Rand("x").Uint64(); a != b || a == Rand("y").Uint64() {
		t.Error("Rand is not one stream for each purpose")
	}
	list[0].Given = "Changed"
	if Patients()[0].Given == "Changed" {
		t.Error("the caller's slice is shared")
	}
	if _, ok := FindPatient("p1031"); ok {
		t.Error("found a 31st patient")
	}
}

type records struct {
	N    int
	List []string
}

func empty() (*records, error) { return &records{}, nil }

func TestStateSurvivesRestart(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "app")
	s, err := OpenState(dir, "app", empty)
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			if err := s.Change(func(r *records) error { r.N++; r.List = append(r.List, "x"); return nil }); err != nil {
				t.Error(err)
			}
			_ = len(s.View().List)
		})
	}
	wg.Wait()
	again, err := OpenState(dir, "app", func() (*records, error) { return nil, errors.New("not asked for") })
	if err != nil {
		t.Fatal(err)
	}
	if got := again.View(); got.N != 20 || !reflect.DeepEqual(got, s.View()) {
		t.Errorf("after the restart: %+v, before: %+v", got, s.View())
	}
	info, err := os.Stat(filepath.Join(dir, "app.json"))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("state file: %v, %v; want mode 0600", info.Mode(), err)
	}
	if left, _ := filepath.Glob(filepath.Join(dir, "*.tmp")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestFailedChangeLeavesAll(t *testing.T) {
	dir := t.TempDir()
	s, err := OpenState(dir, "app", empty)
	if err != nil {
		t.Fatal(err)
	}
	stop := errors.New("stop")
	if err := s.Change(func(r *records) error { r.N = 7; return stop }); !errors.Is(err, stop) {
		t.Errorf("Change: %v, want the error of fn", err)
	}
	// A folder in the place of the temporary file makes writing fail.
	if err := os.Mkdir(filepath.Join(dir, "app.json.tmp"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := s.Change(func(r *records) error { r.N = 8; return nil }); err == nil || !strings.Contains(err.Error(), "saving state") {
		t.Errorf("Change without a place to write: %v", err)
	}
	if s.View().N != 0 {
		t.Errorf("N = %d after two failed changes", s.View().N)
	}
}

func TestDamagedStateIsLeftAlone(t *testing.T) {
	for name, content := range map[string]string{
		"empty":         "",
		"cut":           `{"format":"app/1","data":{"N":`,
		"other app":     `{"format":"other/1","data":{"N":1}}`,
		"no data":       `{"format":"app/1"}`,
		"null":          `null`,
		"unknown":       `{"format":"app/1","data":{"N":1,"M":2}}`,
		"more after it": `{"format":"app/1","data":{"N":1}} {}`,
		"not JSON":      "\x00\x01",
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			path := filepath.Join(dir, "app.json")
			if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
				t.Fatal(err)
			}
			_, err := OpenState(dir, "app", empty)
			if err == nil || !strings.Contains(err.Error(), path) {
				t.Errorf("error %v does not name the file", err)
			}
			if got, _ := os.ReadFile(path); string(got) != content {
				t.Errorf("the file was written over: %q", got)
			}
		})
	}
	if _, err := OpenState("", "app", empty); err == nil {
		t.Error("no folder: no error")
	}
}

func site(t *testing.T) *Site {
	t.Helper()
	pages := fstest.MapFS{"hello.html": {Data: []byte(`{{define "content"}}<p>{{.}}</p>{{end}}`)}, "bad.html": {Data: []byte(`{{define "content"}}{{.Nothing.Here}}{{end}}`)}}
	s, err := NewSite(SiteConfig{Name: "App", Class: "app", Pages: pages, Notices: map[string]string{"saved": "It was saved."}})
	if err != nil {
		t.Fatal(err)
	}
	show := func(w http.ResponseWriter, r *http.Request) error {
		return s.Render(w, r, Page{Name: "hello", Title: "Hello", Data: "<script>1</script>"})
	}
	s.Handle("GET /{$}", show)
	s.Read("/api/thing", func(r *http.Request) (any, error) { return nil, errors.New("secret detail") })
	type thing struct{ A int }
	Create(s, "/api/thing", FormLimit, func(r *http.Request, in thing) (string, any, error) {
		return "/api/thing/1", in, nil
	})
	s.Handle("GET /bad", func(w http.ResponseWriter, r *http.Request) error {
		return s.Render(w, r, Page{Name: "bad", Title: "Bad", Data: 1})
	})
	s.Form("/form", func(r *http.Request) (string, error) { return "/?done=saved", nil })
	return s
}

func TestSiteAnswers(t *testing.T) {
	s := site(t)
	form := "application/x-www-form-urlencoded"
	for _, c := range []struct {
		method, path, ctype, body string
		status                    int
		want                      string
	}{
		{"GET", "/", "", "", 200, "&lt;script&gt;"},
		{"HEAD", "/", "", "", 200, ""},
		{"GET", "/?done=saved", "", "", 200, "It was saved."},
		{"GET", "/?done=<b>", "", "", 200, "Hello"},
		{"GET", "/style.css", "", "", 200, "--mark"},
		{"GET", "/nothing", "", "", 404, "There is nothing at this address."},
		{"GET", "/no//thing", "", "", 404, "nothing"},
		{"GET", "/api/nothing", "", "", 404, `"error": "There is nothing`},
		{"DELETE", "/", "", "", 405, "does not take DELETE"},
		{"PUT", "/api/thing", "", "", 405, `"error"`},
		{"GET", "/bad", "", "", 500, "Something went wrong"},
		{"GET", "/api/thing", "", "", 500, `"error": "Something went wrong`},
		{"POST", "/form", form, "a=1", 303, ""},
		{"POST", "/form", form, "a=%zz", 400, "back button"},
		{"POST", "/nothing", form, "a=1", 404, "<h1>Not found</h1>"},
		{"POST", "/form", form, "a=" + strings.Repeat("x", FormLimit), 413, "larger"},
		{"POST", "/api/thing", "application/json", `{"A":1}`, 201, `"A": 1`},
		{"POST", "/api/thing", "application/json; charset=utf-8", `{"A":1}`, 201, ""},
		{"POST", "/api/thing", "text/plain", `{"A":1}`, 415, "application/json"},
		{"POST", "/api/thing", "", `{"A":1}`, 415, ""},
		{"POST", "/api/thing", "application/json", `{"A":1} {}`, 400, "follows"},
		{"POST", "/api/thing", "application/json", `{"B":1}`, 400, "unknown field"},
		{"POST", "/api/thing", "application/json", `{"A":`, 400, ""},
		{"POST", "/api/thing", "application/json", `{"A":` + strings.Repeat(" ", FormLimit) + `1}`, 413, "larger"},
	} {
		r := httptest.NewRequest(c.method, "http://app.test"+c.path, strings.NewReader(c.body))
		if c.ctype != "" {
			r.Header.Set("Content-Type", c.ctype)
		}
		w := httptest.NewRecorder()
		s.ServeHTTP(w, r)
		if w.Code != c.status || !strings.Contains(w.Body.String(), c.want) {
			t.Errorf("%s %s: %d %s\nwant %d with %q", c.method, c.path, w.Code, w.Body, c.status, c.want)
		}
		if strings.Contains(w.Body.String(), "secret detail") || strings.Contains(w.Body.String(), "<script>") {
			t.Errorf("%s %s: shows what it must not: %s", c.method, c.path, w.Body)
		}
		if c.status == 405 && w.Header().Get("Allow") == "" {
			t.Errorf("%s %s: no Allow header", c.method, c.path)
		}
	}
}

func TestGreetingIsEscaped(t *testing.T) {
	r := httptest.NewRequest("GET", "/", nil)
	r.Header.Set("Remote-User", `<b>"doctor"</b>`)
	w := httptest.NewRecorder()
	site(t).ServeHTTP(w, r)
	if !strings.Contains(w.Body.String(), "Hello, &lt;b&gt;") {
		t.Errorf("greeting: %s", w.Body)
	}
}

func TestText(t *testing.T) {
	for _, c := range []struct {
		in, want string
		refused  bool
	}{
		{" a b ", "a b", false}, {"a\r\nb", "a\nb", false}, {"ÄÖÜäö", "ÄÖÜäö", false},
		{"", "", true}, {" \n ", "", true}, {"abcdef", "", true}, {"a\x00b", "", true}, {"a\xffb", "", true}, {"a\x1bb", "", true},
	} {
		got, err := Text("note", c.in, 5)
		var p *Problem
		if refused := errors.As(err, &p); got != c.want || refused != c.refused || (refused && p.Status != 422) {
			t.Errorf("Text(%q) = %q, %v", c.in, got, err)
		}
	}
	if _, err := Line("note", "a\nb", 5); err == nil {
		t.Error("Line took two lines")
	}
}
