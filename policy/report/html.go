package report

import (
	"bytes"
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"fmt"
	"html/template"
	"io"
	"time"
	"unicode"
)

var (
	//go:embed matrix.html
	pageText string
	//go:embed matrix.css
	pageStyle string

	page = template.Must(template.New("matrix").Funcs(template.FuncMap{
		"inc": func(i int) int { return i + 1 }, "mark": func(k Kind) string { return marks[k].mark }, "word": func(k Kind) string { return marks[k].word },
	}).Parse(pageText))
)

// Page is what stands on an auditor's page besides the tables.
type Page struct {
	Config string      // the file's name
	Sums   [][2]string // what was hashed, and its SHA-256 in hex
	Made   time.Time   // when; zero: it is not told
	By     string      // the program and its version
}

// marks show a kind to the eye; the word is always there, too, so that nothing is told by colour or shape alone.
var marks = map[Kind]struct{ mark, word, meaning string }{
	Yes:         {"●", "yes", "Allowed, whatever the hour, the place and the way of signing in."},
	Own:         {"◐", "own", "Allowed where the name in the path is the person’s own; for anybody else’s it is not, or as the note says."},
	StepUp:      {"▲", "step-up", "Allowed once the person has signed in at the level, by the method or as lately as the note says."},
	Conditional: {"◇", "if", "Allowed only under the conditions of the note."},
	Emergency:   {"✚", "emergency", "Not allowed, but the person may break the glass: with a reason, for a time, alarmed and reviewed."},
	SignIn:      {"→", "sign in", "Nobody is let in without signing in. What follows depends on who that is."},
	No:          {"–", "no", "Refused."},
}

// kinds is the order of the legend.
var kinds = []Kind{Yes, Own, StepUp, Conditional, Emergency, SignIn, No}

// The page's parts, as the template takes them.
type (
	shownPage struct {
		Page
		Style   template.CSS
		Allowed string // the content security policy
		Date    string
		Legend  []shownKind
		Sites   []shownSite
	}
	shownKind struct {
		Kind    Kind
		Meaning string
	}
	shownSite struct {
		*Matrix
		ID     string
		Groups []shownGroup
		Notes  []string
	}
	shownGroup struct {
		Route string
		Rows  []shownRow
	}
	shownRow struct {
		Methods, Example string
		Cells            []shownCell
	}
	shownCell struct {
		Cell
		Who   string
		Notes []int
	}
)

// WriteHTML writes one page that loads nothing and runs nothing: for a browser, for paper, and for whoever comes in ten years.
func WriteHTML(w io.Writer, matrices []Matrix, p Page) error {
	sum := sha256.Sum256([]byte(pageStyle))
	shown := shownPage{
		Page: p, Style: template.CSS(pageStyle),
		Allowed: "default-src 'none'; style-src 'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'; base-uri 'none'; form-action 'none'",
	}
	if !p.Made.IsZero() {
		shown.Date = p.Made.Format("2 January 2006, 15:04 MST")
		if day := p.Made.Truncate(24 * time.Hour); day.Equal(p.Made) {
			shown.Date = p.Made.Format("2 January 2006")
		}
	}
	used := map[Kind]bool{}
	for i := range matrices {
		site := show(&matrices[i], used)
		site.ID = fmt.Sprint("site-", i+1)
		shown.Sites = append(shown.Sites, site)
	}
	for _, k := range kinds {
		if used[k] {
			shown.Legend = append(shown.Legend, shownKind{k, marks[k].meaning})
		}
	}
	var b bytes.Buffer
	if err := page.Execute(&b, shown); err != nil {
		return err
	}
	_, err := w.Write(bytes.Map(func(r rune) rune {
		if r == '\n' || unicode.IsPrint(r) && r != unicode.ReplacementChar {
			return r
		}
		return '?' // also marks that turn the direction of text, by which one name could pass for another
	}, b.Bytes()))
	return err
}

// show groups the rows of one site by their routes.
func show(m *Matrix, used map[Kind]bool) shownSite {
	site := shownSite{Matrix: m}
	var n notes
	for _, r := range m.merged() {
		if len(site.Groups) == 0 || site.Groups[len(site.Groups)-1].Route != r.Route {
			site.Groups = append(site.Groups, shownGroup{Route: r.Route})
		}
		row := shownRow{Methods: m.methodNames(r), Example: r.Example}
		for i, c := range r.Cells {
			used[c.Kind] = true
			cell := shownCell{Cell: c, Who: m.Actors[i].Name}
			if c.Note != "" {
				cell.Notes = []int{n.of(c.Note)}
			}
			row.Cells = append(row.Cells, cell)
		}
		group := &site.Groups[len(site.Groups)-1]
		group.Rows = append(group.Rows, row)
	}
	site.Notes = n.texts
	return site
}
