package report

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/csv"
	"encoding/xml"
	"errors"
	"io"
	"strings"
	"testing"
	"time"
)

// hostile is what a config, which others may write parts of, could have in its names.
const hostile = `<script>alert(1)</script>"'&=1+1|x` + "\x1b[31m\u202e"

func hostileMatrix(t *testing.T) Matrix {
	m := NewMatrix(site(t, "allow role doctor /a'b/$(x)/**\nallow role doctor /c&d/** network wards\nallow role doctor /e/{x} when `path.x == \"<img src=x onerror=alert(1)>\"`"))
	m.Site, m.At = hostile, hostile
	for i := range m.Actors {
		m.Actors[i].Name += hostile
	}
	for i := range m.Rows {
		m.Rows[i].Route += hostile
		m.Rows[i].Example += hostile
		for j := range m.Rows[i].Cells {
			m.Rows[i].Cells[j].Note += hostile
			m.Rows[i].Cells[j].Rule += hostile
		}
	}
	for i := range m.Rules {
		m.Rules[i].Text += hostile
	}
	return m
}

// page makes the HTML of matrices.
func pageOf(t *testing.T, matrices ...Matrix) []byte {
	t.Helper()
	var b bytes.Buffer
	p := Page{Config: "Caddyfile" + matrices[0].At, Sums: [][2]string{{"Caddyfile", "ab12"}}, Made: time.Date(2026, 11, 22, 9, 0, 0, 0, time.UTC), By: "anteroom"}
	if err := WriteHTML(&b, matrices, p); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// element is one that was opened, with its attributes.
type element struct {
	name string
	attr map[string]string
}

// parse reads the page as XML, which is stricter than HTML: each element is closed, each attribute quoted.
func parse(t *testing.T, page []byte) (elements []element) {
	t.Helper()
	_, body, ok := bytes.Cut(page, []byte("<!DOCTYPE html>\n"))
	if !ok {
		t.Fatal("the page has no doctype")
	}
	d := xml.NewDecoder(bytes.NewReader(body))
	d.Entity = xml.HTMLEntity
	for {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			return elements
		}
		if err != nil {
			t.Fatalf("the page is not well-formed: %v", err)
		}
		if s, ok := token.(xml.StartElement); ok {
			e := element{s.Name.Local, map[string]string{}}
			for _, a := range s.Attr {
				e.attr[a.Name.Local] = a.Value
			}
			elements = append(elements, e)
		}
	}
}

// TestHTMLIsSelfContainedAndSafe: whatever the names, the page has the elements of the template and no others, runs nothing and
// loads nothing, and its policy lets the one style through and nothing else.
func TestHTMLIsSelfContainedAndSafe(t *testing.T) {
	for name, page := range map[string][]byte{"plain": pageOf(t, NewMatrix(site(t, hospital))), "hostile": pageOf(t, hostileMatrix(t))} {
		allowed := strings.Fields("html head meta title style body header main section footer h1 h2 h3 p dl div dt dd span table caption thead tbody tr th td sup a code small ol li")
		for _, e := range parse(t, page) {
			if !strings.Contains(" "+strings.Join(allowed, " ")+" ", " "+e.name+" ") {
				t.Errorf("%s: there is a <%s>", name, e.name)
			}
			for key, value := range e.attr {
				if strings.HasPrefix(key, "on") || key == "src" || key == "style" || key == "href" && !strings.HasPrefix(value, "#site-") {
					t.Errorf("%s: <%s %s=%q>", name, e.name, key, value)
				}
			}
		}
		for _, bad := range []string{"<script", "<img", "url(", "@import", "http://", "https://", "\x1b", "ZgotmplZ"} {
			if bytes.Contains(page, []byte(bad)) {
				t.Errorf("%s: the page has %q", name, bad)
			}
		}
		style := between(t, page, "<style>", "</style>")
		sum := sha256.Sum256([]byte(style))
		want := "default-src 'none'; style-src 'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'"
		if got := strings.NewReplacer("&#39;", "'", "&#43;", "+").Replace(between(t, page, `Content-Security-Policy" content="`, `"`)); !strings.HasPrefix(got, want) {
			t.Errorf("%s: the policy of the page is %q, want %q", name, got, want)
		}
	}
}

func between(t *testing.T, page []byte, start, end string) string {
	t.Helper()
	_, rest, ok1 := strings.Cut(string(page), start)
	text, _, ok2 := strings.Cut(rest, end)
	if !ok1 || !ok2 {
		t.Fatalf("the page has no %s…%s", start, end)
	}
	return text
}

// TestHTMLTables: a screen reader finds caption and headers, every row is as wide as the table's head, each note is there, and the
// page says which config it is about, when it was made, and all lines with their places.
func TestHTMLTables(t *testing.T) {
	m := NewMatrix(site(t, hospital))
	page := pageOf(t, m)
	captions, scopes, targets, ids := 0, map[string]int{}, map[string]bool{}, map[string]bool{}
	for _, e := range parse(t, page) {
		switch e.name {
		case "caption":
			captions++
		case "th":
			scopes[e.attr["scope"]]++
		case "a":
			targets[strings.TrimPrefix(e.attr["href"], "#")] = true
		}
		if id := e.attr["id"]; id != "" {
			if ids[id] {
				t.Errorf("two elements are called %s", id)
			}
			ids[id] = true
		}
	}
	if captions != 2 || scopes[""] != 0 || scopes["col"] != 2+len(m.Actors)+2 || scopes["row"] != len(m.merged())+len(m.Rules) || scopes["rowgroup"] == 0 {
		t.Errorf("%d captions, header cells %v for %d rows of %d people", captions, scopes, len(m.Rows), len(m.Actors))
	}
	for id := range targets {
		if !ids[id] {
			t.Errorf("the note %s is missing", id)
		}
	}
	if len(targets) == 0 {
		t.Error("no cell points to a note")
	}
	for _, want := range []string{"22 November 2026", "ab12", "Caddyfile:18", "shadow deny role doctor /patients/*/psychiatry/**", "@media print", "prefers-color-scheme: dark", `lang="en"`} {
		if !bytes.Contains(page, []byte(want)) {
			t.Errorf("the page lacks %q", want)
		}
	}
}

// TestCSVHasNoFormulas: no cell begins with what a spreadsheet computes, also behind blanks and quotes, and a hostile name neither adds
// a line nor a cell (OWASP, CSV injection).
func TestCSVHasNoFormulas(t *testing.T) {
	for _, bad := range []string{"=1+1", "+1", "-1", "@SUM(A1)", "|x", "%0", " =1", "'=1", "\"=1", "\t=1", "\r=1", "\uFF1D1", "\uFF0B1", "\uFF0D1", "\uFF201", "\u00a0=1"} {
		if got := unformula(bad); !strings.HasPrefix(got, "'") && !strings.HasPrefix(got, "?") {
			t.Errorf("%q becomes %q", bad, got)
		}
	}
	for _, good := range []string{"/patients/**", "doctor", "anonymous", "", "allow role a-b", "10.1.0.0/16"} {
		if got := unformula(good); got != good {
			t.Errorf("%q becomes %q", good, got)
		}
	}
	m := hostileMatrix(t)
	for i := range m.Actors {
		m.Actors[i].Name = "=cmd|'/c calc'!A1\r\n" + m.Actors[i].Name
	}
	var b bytes.Buffer
	if err := WriteCSV(&b, []Matrix{m}); err != nil {
		t.Fatal(err)
	}
	records, err := csv.NewReader(&b).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	want := 1
	for _, r := range m.Rows {
		want += len(r.Methods) * len(m.Actors)
	}
	if len(records) != want || want < 10 {
		t.Errorf("%d records, want %d", len(records), want)
	}
	for _, record := range records {
		for _, field := range record {
			if strings.IndexAny(field, "=+-@|%\t\r\n") == 0 || strings.ContainsAny(field, "\r\n\x1b") {
				t.Fatalf("a cell is %q", field)
			}
		}
	}
}

// TestTableIsPrintable: nothing in a name acts on a terminal or begins another line.
func TestTableIsPrintable(t *testing.T) {
	m := hostileMatrix(t)
	var b bytes.Buffer
	if err := m.Table(&b); err != nil {
		t.Fatal(err)
	}
	if strings.ContainsAny(b.String(), "\x1b\u202e\r") {
		t.Error("a control character is written")
	}
}
