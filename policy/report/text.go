package report

import (
	"encoding/csv"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"
)

// shortTime is a duration as a config has it: 30m, not 30m0s.
func shortTime(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

// printable replaces what could act on a terminal or make one line look like another.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r == unicode.ReplacementChar || !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, s)
}

// notes gives each text a number, in the order in which they come.
type notes struct {
	texts  []string
	number map[string]int
}

func (n *notes) of(text string) int {
	if n.number == nil {
		n.number = map[string]int{}
	}
	if n.number[text] == 0 {
		n.texts = append(n.texts, text)
		n.number[text] = len(n.texts)
	}
	return n.number[text]
}

// short is a cell for a narrow column; what it depends on stands below the table.
func (c Cell) short(n *notes) string {
	if c.Note == "" {
		return string(c.Kind)
	}
	word := string(c.Kind)
	if c.Kind == Conditional {
		word = "if"
	}
	return fmt.Sprintf("%s [%d]", word, n.of(c.Note))
}

// methodNames is "all", "all but DELETE", or the row's methods.
func (m *Matrix) methodNames(r Row) string {
	but := slices.DeleteFunc(slices.Clone(m.All), func(method string) bool { return slices.Contains(r.Methods, method) })
	switch {
	case len(but) == 0:
		return "all"
	case len(but) <= 2 && len(r.Methods) > 2*len(but):
		return "all but " + strings.Join(but, ", ")
	}
	return strings.Join(r.Methods, ", ")
}

// merged are the rows for people, in which it does not matter which line decided: methods with the same answers share one.
func (m *Matrix) merged() (rows []Row) {
	start := 0 // of the route's rows
	for _, r := range m.Rows {
		if len(rows) == 0 || rows[start].Route != r.Route {
			start = len(rows)
		}
		i := slices.IndexFunc(rows[start:], func(o Row) bool {
			return slices.EqualFunc(o.Cells, r.Cells, func(a, b Cell) bool { return a.Kind == b.Kind && a.Note == b.Note })
		})
		if i < 0 {
			r.Methods, r.Cells = slices.Clone(r.Methods), slices.Clone(r.Cells)
			rows = append(rows, r)
			continue
		}
		row := &rows[start+i]
		row.Methods = slices.DeleteFunc(slices.Clone(m.All), func(method string) bool {
			return !slices.Contains(row.Methods, method) && !slices.Contains(r.Methods, method)
		})
		for j := range row.Cells {
			if row.Cells[j].Rule != r.Cells[j].Rule {
				row.Cells[j].Rule = ""
			}
		}
	}
	return rows
}

// Table writes the matrix for a terminal.
func (m *Matrix) Table(w io.Writer) error {
	if _, err := fmt.Fprintf(w, "%s (%s)\n\n", printable(m.Site), printable(m.At)); err != nil {
		return err
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	head := []string{"ROUTE", "METHODS"}
	for _, a := range m.Actors {
		head = append(head, printable(a.Name))
	}
	_, _ = fmt.Fprintln(t, strings.Join(head, "\t")) // Flush tells of errors
	var n notes
	rows := m.merged()
	for i, r := range rows {
		route := printable(r.Route)
		if i > 0 && rows[i-1].Route == r.Route {
			route = ""
		}
		fields := []string{route, printable(m.methodNames(r))}
		for _, c := range r.Cells {
			fields = append(fields, c.short(&n))
		}
		_, _ = fmt.Fprintln(t, strings.Join(fields, "\t"))
	}
	if err := t.Flush(); err != nil {
		return err
	}
	var b strings.Builder
	for i, text := range n.texts {
		if i == 0 {
			b.WriteString("\n")
		}
		fmt.Fprintf(&b, "[%d] %s\n", i+1, printable(text))
	}
	if m.More > 0 {
		fmt.Fprintf(&b, "\n%d more whom lines name have no column.\n", m.More)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// WriteCSV writes one line for each site, person, route and method (RFC 4180), for a spreadsheet's filters.
func WriteCSV(w io.Writer, matrices []Matrix) error {
	c := csv.NewWriter(w)
	c.UseCRLF = true
	_ = c.Write([]string{"site", "who", "route", "example", "method", "decision", "depends on", "rule"}) // Error tells
	for _, m := range matrices {
		for _, r := range m.Rows {
			for i, cell := range r.Cells {
				for _, method := range r.Methods {
					fields := []string{m.Site, m.Actors[i].Name, r.Route, r.Example, method, string(cell.Kind), cell.Note, cell.Rule}
					for j := range fields {
						fields[j] = unformula(fields[j])
					}
					_ = c.Write(fields)
				}
			}
		}
	}
	c.Flush()
	return c.Error()
}

// unformula puts a quote before what a spreadsheet would take for a formula, also behind blanks and in the full-width forms that
// some take for the same. Control characters, which could begin another cell, go.
func unformula(s string) string {
	s = printable(s)
	start := strings.TrimLeftFunc(s, func(r rune) bool { return unicode.IsSpace(r) || r == '\'' || r == '"' })
	if strings.IndexAny(start, "=+-@|%\uFF1D\uFF0B\uFF0D\uFF20") == 0 {
		return "'" + s
	}
	return s
}
