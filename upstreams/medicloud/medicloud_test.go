package medicloud

import (
	"bytes"
	"encoding/json"
	"fmt"
	"image/png"
	"io"
	"log/slog"
	"mime"
	"mime/multipart"
	"net/http"
	"net/http/httptest"
	"net/textproto"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/anteroom-proxy/anteroom/upstreams/synthetic"
)

const testMax = 10 << 20 // of service.config

var clock = time.Date(2031, 3, 5, 10, 0, 0, 0, time.UTC)

func now() time.Time { return clock }

// services are the encryption services of the tests, one for each folder: a restart finds its own.
var services sync.Map

func start(t *testing.T, dir string) http.Handler {
	t.Helper()
	s, ok := services.Load(dir)
	if !ok {
		s = newService(t)
		services.Store(dir, s)
	}
	h := on(t, s.(*service), dir)
	want(t, get(h, "/"), 200, "") // opens the records
	return h
}

func send(h http.Handler, method, path, ctype string, body io.Reader) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, path, body)
	if ctype != "" {
		r.Header.Set("Content-Type", ctype)
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

func get(h http.Handler, path string) *httptest.ResponseRecorder {
	return send(h, "GET", path, "", nil)
}

// part is one field of an upload; file is its raw filename parameter.
type part struct{ name, file, content string }

func post(t *testing.T, h http.Handler, parts ...part) *httptest.ResponseRecorder {
	t.Helper()
	var b bytes.Buffer
	m := multipart.NewWriter(&b)
	for _, p := range parts {
		d := fmt.Sprintf(`form-data; name="%s"`, p.name)
		if p.file != "" {
			d += fmt.Sprintf(`; filename="%s"`, strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(p.file))
		}
		w, err := m.CreatePart(textproto.MIMEHeader{"Content-Disposition": {d}, "Content-Type": {"text/html"}})
		if err != nil {
			t.Fatal(err)
		}
		io.WriteString(w, p.content)
	}
	m.Close()
	return send(h, "POST", "/documents", m.FormDataContentType(), &b)
}

// want reports an answer of another status, or one without the text.
func want(t *testing.T, w *httptest.ResponseRecorder, status int, text string) {
	t.Helper()
	if w.Code != status || !strings.Contains(w.Body.String(), text) {
		t.Errorf("got %d, want %d with %q:\n%.2000s", w.Code, status, text, w.Body)
	}
}

func documents(t *testing.T, h http.Handler, query string) (list []Document) {
	t.Helper()
	if err := json.Unmarshal(get(h, "/api/documents"+query).Body.Bytes(), &list); err != nil {
		t.Fatal(err)
	}
	return list
}

// stored returns the names of the files in the app's folder.
func stored(t *testing.T, dir string) (names []string) {
	t.Helper()
	list, err := os.ReadDir(filepath.Join(dir, "files"))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range list {
		names = append(names, e.Name())
	}
	return names
}

func TestPages(t *testing.T) {
	h := start(t, t.TempDir())
	for _, path := range []string{"/", "/documents", "/?patient=p1001", "/documents/d7001", "/documents/d7002"} {
		w := get(h, path)
		want(t, w, 200, "Medicloud")
		if strings.Contains(w.Body.String(), `name="username"`) || strings.Contains(w.Body.String(), "<script") {
			t.Errorf("%s: a field called username, or a script", path)
		}
	}
	want(t, get(h, "/documents/d1"), 404, "no such document")
	want(t, get(h, "/documents/d1/file"), 404, "no such document")
	want(t, get(h, "/files/d7001"), 404, "nothing at this address")
	want(t, send(h, "DELETE", "/documents/d7001", "", nil), 405, "DELETE")
}

func TestUploadAndDownload(t *testing.T) {
	dir := t.TempDir()
	h := start(t, dir)
	image := get(h, "/documents/d7002/file").Body.String()
	content := "%PDF-1.4\n" + strings.Repeat("\x00\xffdata\r\n", 5000)
	for _, c := range []struct{ name, content, ctype string }{
		{"report.pdf", content, "application/pdf"},
		{"picture.png", image, "image/png"},
		{"Größe.txt", "größe: 180 cm\n", "text/plain; charset=utf-8"},
		{"scan.dcm", strings.Repeat("\x00", 128) + "DICM\x02\x00", "application/dicom"},
		{"latin1.txt", "gr\xf6\xdfe", "application/octet-stream"},
		{"page.png", "<!doctype html><script>alert(1)</script>", "application/octet-stream"},
		{"drawing.svg", `<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg"><script>1</script></svg>`, "application/octet-stream"},
		{"archive.zip", "PK\x03\x04rest", "application/octet-stream"},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := post(t, h, part{"patient", "", "p1004"}, part{"note", "", "A <b>note</b>"}, part{"file", c.name, c.content})
			want(t, w, 303, "")
			path, _, _ := strings.Cut(w.Header().Get("Location"), "?")
			h := start(t, dir) // a restart
			page := get(h, path)
			want(t, page, 200, "A &lt;b&gt;note&lt;/b&gt;")
			file := get(h, path+"/file")
			if file.Code != 200 || file.Body.String() != c.content {
				t.Errorf("download: %d, %d bytes, want %d", file.Code, file.Body.Len(), len(c.content))
			}
			head := file.Header()
			kind, params, err := mime.ParseMediaType(head.Get("Content-Disposition"))
			if err != nil || kind != "attachment" || params["filename"] != c.name {
				t.Errorf("Content-Disposition %q", head.Get("Content-Disposition"))
			}
			if head.Get("Content-Type") != c.ctype || head.Get("X-Content-Type-Options") != "nosniff" || !strings.Contains(head.Get("Content-Security-Policy"), "sandbox") {
				t.Errorf("headers %v, want type %s", head, c.ctype)
			}
			if got := get(h, "/api"+path+"/file").Body.String(); got != c.content {
				t.Errorf("the API gives %d bytes", len(got))
			}
		})
	}
}

func TestHostileFileNames(t *testing.T) {
	dir := t.TempDir()
	h := start(t, dir)
	before := len(stored(t, dir))
	for in, name := range map[string]string{
		"../../../../etc/passwd":           "passwd",
		`..\..\windows\system32.ini`:       "system32.ini",
		"/etc/shadow":                      "shadow",
		"..":                               "document",
		"...":                              "document",
		".htaccess":                        "htaccess",
		"a/":                               "document",
		"a\x00b.png":                       "ab.png",
		"a\tb.txt":                         "ab.txt",
		"exe\u202egnp.txt":                 "exegnp.txt",
		"a\u200bb":                         "ab",
		`quo"te;x=y.png`:                   "quo_te;x=y.png",
		"<img src=x onerror=1>.png":        "_img src=x onerror=1_.png",
		"c:evil.exe":                       "c_evil.exe",
		"bad\xff\xfe.txt":                  "bad_.txt",
		"  spaced .txt  ":                  "spaced .txt",
		strings.Repeat("ü", 200) + ".jpeg": strings.Repeat("ü", 95) + ".jpeg",
		"x." + strings.Repeat("y", 300):    "x." + strings.Repeat("y", 98),
	} {
		if got := cleanName(in); got != name || utf8.RuneCountInString(got) > maxName {
			t.Errorf("cleanName(%q) = %q, want %q", in, got, name)
			continue
		}
		body, _ := json.Marshal(asJSON{Patient: "p1001", Name: in, Content: []byte("x")})
		w := send(h, "POST", "/api/documents", "application/json", bytes.NewReader(body))
		want(t, w, 201, `"size": 1`)
		var d Document
		if err := json.Unmarshal(w.Body.Bytes(), &d); err != nil {
			t.Fatal(err)
		}
		header := get(h, "/documents/"+d.ID+"/file").Header().Get("Content-Disposition")
		if _, params, err := mime.ParseMediaType(header); err != nil || params["filename"] != d.Name || strings.ContainsAny(header, "\r\n") {
			t.Errorf("%q: Content-Disposition %q: %v", in, header, err)
		}
		if page := get(h, "/documents/"+d.ID).Body.String(); strings.Contains(page, "<img src=x") {
			t.Errorf("%q stands in the page unescaped", in)
		}
	}
	for _, file := range []string{`..\..\x.txt`, "../../x.txt", "a\";b=\"c.txt"} {
		want(t, post(t, h, part{"patient", "", "p1001"}, part{"file", file, "x"}), 303, "")
	}
	names := stored(t, dir)
	if len(names) != before+21 {
		t.Errorf("%d files stored, want %d", len(names), before+21)
	}
	for _, n := range names {
		if strings.Trim(strings.TrimSuffix(n, ".sealed"), "0123456789abcdef") != "" {
			t.Errorf("a stored file is called %q", n)
		}
	}
	if top, _ := os.ReadDir(dir); len(top) != 2 {
		t.Errorf("something besides files and medicloud.json in the folder: %v", top)
	}
}

func TestRefusals(t *testing.T) {
	dir := t.TempDir()
	h := start(t, dir)
	before := stored(t, dir)
	who := part{"patient", "", "p1001"}
	want(t, post(t, h, who), 422, "choose a file")
	want(t, post(t, h, who, part{"file", "a.txt", ""}), 422, "not empty")
	want(t, post(t, h, part{"file", "a.txt", "x"}), 422, "no such patient")
	want(t, post(t, h, who, part{"file", "a", "x"}, part{"file", "b", "y"}), 400, "one document at a time")
	want(t, post(t, h, who, part{"path", "", "/etc"}, part{"file", "a", "x"}), 400, "does not belong")
	want(t, post(t, h, who, part{"note", "", strings.Repeat("x", 201)}, part{"file", "a", "x"}), 422, "shorten: note")
	want(t, post(t, h, who, part{"file", "a", strings.Repeat("x", testMax+1)}), 413, "at most 10.0 MiB")
	want(t, post(t, h, who, part{"file", "a", strings.Repeat("x", testMax+around)}), 413, "at most 10.0 MiB")
	want(t, send(h, "POST", "/documents", "application/x-www-form-urlencoded", strings.NewReader("a=b")), 415, "multipart")
	want(t, send(h, "POST", "/documents", "multipart/form-data; boundary=x", strings.NewReader("--x\r\nContent-Disposition: form-data; name=\"file\"\r\n\r\ncut")), 400, "Nothing was stored")
	for body, status := range map[string]int{
		`{"patient":"p1001","name":"a","content":"***"}`: 400, `{"patient":"p1001","name":"a"}`: 422, `{"patient":"p0","name":"a","content":"eA=="}`: 422,
		`{"patient":"p1001","id":"d7001","content":"eA=="}`: 400, `{"content":"` + strings.Repeat("A", MaxJSON/3*4+around) + `"}`: 413,
	} {
		want(t, send(h, "POST", "/api/documents", "application/json", strings.NewReader(body)), status, `"error"`)
	}
	if after := stored(t, dir); len(after) != len(before) {
		t.Errorf("refused uploads left files: %d, before %d", len(after), len(before))
	}
}

func TestLargestDocument(t *testing.T) {
	h := start(t, t.TempDir())
	content := strings.Repeat("0123456789abcdef", testMax/16)
	w := post(t, h, part{"patient", "", "p1001"}, part{"file", "big.txt", content})
	want(t, w, 303, "")
	path, _, _ := strings.Cut(w.Header().Get("Location"), "?")
	if got := get(h, path+"/file").Body.String(); got != content {
		t.Errorf("%d bytes came back", len(got))
	}
	body, _ := json.Marshal(asJSON{Patient: "p1001", Name: "big.txt", Content: []byte(content)})
	want(t, send(h, "POST", "/api/documents", "application/json", bytes.NewReader(body)), 201, `"size": 10485760`)
}

func TestAPIAndSeed(t *testing.T) {
	h := start(t, t.TempDir())
	var index synthetic.Index
	if err := json.Unmarshal(get(h, "/api/").Body.Bytes(), &index); err != nil || index.App != "medicloud" {
		t.Fatalf("index %+v: %v", index, err)
	}
	for _, p := range index.Reads {
		want(t, get(h, strings.Replace(p, "{id}", "d7001", 1)), 200, "")
	}
	list := documents(t, h, "")
	if len(list) != 20 {
		t.Errorf("%d documents at first, want 20", len(list))
	}
	for _, d := range list {
		w := get(h, "/documents/"+d.ID+"/file")
		if d.Uploaded.After(clock) || w.Code != 200 || int64(w.Body.Len()) != d.Size {
			t.Errorf("%+v: %d", d, w.Code)
		}
		if d.Image() {
			if _, err := png.Decode(w.Body); err != nil {
				t.Errorf("%s: %v", d.ID, err)
			}
		}
	}
	for range 2 {
		body, _ := json.Marshal(index.Writes[0].Example)
		want(t, send(h, "POST", index.Writes[0].Path, "application/json", bytes.NewReader(body)), 201, `"note.txt"`)
	}
	if got := documents(t, h, "?patient=p1001"); len(got) != 4 || got[0].Name != "note.txt" {
		t.Errorf("documents of p1001: %+v", got)
	}
}

func TestDamagedFiles(t *testing.T) {
	dir := t.TempDir()
	h := start(t, dir)
	if err := os.WriteFile(filepath.Join(dir, "files", "d7001.sealed"), []byte("other"), 0o600); err != nil {
		t.Fatal(err)
	}
	want(t, get(h, "/documents/d7001/file"), 500, "damaged or missing")
	os.Remove(filepath.Join(dir, "files", "d7001.sealed"))
	w := get(h, "/api/documents/d7001/file")
	want(t, w, 500, "damaged or missing")
	if strings.Contains(w.Body.String(), dir) {
		t.Error("the answer shows where files lie")
	}
	path := filepath.Join(dir, "medicloud.sealed")
	if err := os.WriteFile(path, []byte("{}"), 0o600); err != nil {
		t.Fatal(err)
	}
	s, _ := services.Load(dir)
	var log strings.Builder
	c := s.(*service).config(dir)
	c.Logger = slog.New(slog.NewTextHandler(&log, nil))
	a, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	want(t, get(a, "/"), 500, "")
	if !strings.Contains(log.String(), path) {
		t.Errorf("the log does not name %s: %s", path, log.String())
	}
	if b, _ := os.ReadFile(path); string(b) != "{}" {
		t.Error("the damaged file was touched")
	}
}

// TestConfig: without an address of the service there is no app, and no clear text instead.
func TestConfig(t *testing.T) {
	for _, c := range []Config{{}, {VaultURL: "http://localhost/envelope-service", TokenFile: "x"}, {VaultURL: "https://localhost/envelope-service"}, {VaultURL: "https://u:p@localhost/x", TokenFile: "x"}} {
		c.Dir = t.TempDir()
		if _, err := New(c); err == nil {
			t.Errorf("%+v is taken", c)
		}
	}
}
