package caddymodule

import (
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/anteroom-proxy/anteroom/emergency"
	"github.com/spf13/cobra"
)

// reviewReport is what `review report --json` prints.
type reviewReport struct {
	Months  []emergency.Month `json:"months"`
	Drills  map[string]int    `json:"drills_within_a_year"` // by site
	Missing int               `json:"reviews_without_beginning"`
}

// reviewReportCommand is `review report`.
func reviewReportCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "report AUDITLOG… [--csv|--json]",
		Short: "Counts emergency accesses by month and site",
		Long: "Reads files of the audit log, or folders of them, or `-` for standard input, and counts for each month (UTC) and site the emergency accesses that began: how many of them were drills, how many began without the fresh sign-in that their rule asks for, " +
			"how many were reviewed, accepted and rejected, reviewed late (after 72 hours), and are overdue. Give it the logs of all nodes; nothing is counted twice. " +
			"A drill twice a year is usual: sites with fewer within the last twelve months are named.",
		Example: "  anteroom review report /var/lib/anteroom/audit\n  anteroom review report node1/audit node2/audit --csv > emergencies.csv",
		Args:    cobra.MinimumNArgs(1),
	}
	asCSV := c.Flags().Bool("csv", false, "print CSV, a line for each month and site")
	asJSON := c.Flags().Bool("json", false, "print JSON for programs")
	c.RunE = func(c *cobra.Command, args []string) error {
		c.SilenceUsage = true
		if *asCSV && *asJSON {
			return errors.New("write --csv or --json, not both")
		}
		files, err := auditFiles(args)
		if err != nil {
			return fmt.Errorf("reporting: %w", err)
		}
		var r emergency.Report
		for _, name := range files {
			if err := readReport(&r, name, c.InOrStdin()); err != nil {
				return fmt.Errorf("reporting: reading %s: %w", printable(name), err)
			}
		}
		now := time.Now()
		out := reviewReport{r.Months(now), r.Drills(now.AddDate(-1, 0, 0)), r.Foreign()}
		switch {
		case *asJSON:
			return printJSON(c, out)
		case *asCSV:
			return out.csv(c.OutOrStdout())
		}
		return out.text(c.OutOrStdout(), r.Unreadable)
	}
	return c
}

func readReport(r *emergency.Report, name string, stdin io.Reader) error {
	if name == "-" {
		return r.Read(stdin)
	}
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	return r.Read(f)
}

// monthFields are the columns after month and site.
var monthFields = []struct {
	name  string
	count func(m *emergency.Month) int
}{
	{"begun", func(m *emergency.Month) int { return m.Begun }},
	{"drills", func(m *emergency.Month) int { return m.Drills }},
	{"without_fresh_sign_in", func(m *emergency.Month) int { return m.Stale }},
	{"reviewed", func(m *emergency.Month) int { return m.Reviewed }},
	{"accepted", func(m *emergency.Month) int { return m.Accepted }},
	{"rejected", func(m *emergency.Month) int { return m.Rejected }},
	{"late", func(m *emergency.Month) int { return m.Late }},
	{"overdue", func(m *emergency.Month) int { return m.Overdue }},
}

func (r *reviewReport) csv(to io.Writer) error {
	w := csv.NewWriter(to)
	head := []string{"month", "site"}
	for _, f := range monthFields {
		head = append(head, f.name)
	}
	_ = w.Write(head) // Error tells of it
	for i := range r.Months {
		m := &r.Months[i]
		line := []string{m.Month, spreadsheet(m.Site)}
		for _, f := range monthFields {
			line = append(line, strconv.Itoa(f.count(m)))
		}
		_ = w.Write(line)
	}
	w.Flush()
	return w.Error()
}

// spreadsheet keeps a text from being taken for a formula, also behind blanks and quotes and in the full-width forms that some take for
// the same.
func spreadsheet(text string) string {
	text = printable(text)
	start := strings.TrimLeft(text, " ?'\"")
	if strings.IndexAny(start, "=+-@|%\uFF1D\uFF0B\uFF0D\uFF20") == 0 {
		return "'" + text
	}
	return text
}

func (r *reviewReport) text(to io.Writer, unreadable int) error {
	if len(r.Months) == 0 {
		_, err := fmt.Fprintln(to, "No emergency access stands in these logs.")
		return err
	}
	w := tabwriter.NewWriter(to, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(w, "MONTH\tSITE\tBEGUN\tDRILLS\tNO FRESH SIGN-IN\tREVIEWED\tACCEPTED\tREJECTED\tLATE\tOVERDUE") // Flush tells of errors
	sums := make([]int, len(monthFields))
	for i := range r.Months {
		m := &r.Months[i]
		_, _ = fmt.Fprintf(w, "%s\t%s", cell(m.Month), cell(m.Site))
		for j, f := range monthFields {
			sums[j] += f.count(m)
			_, _ = fmt.Fprintf(w, "\t%d", f.count(m))
		}
		_, _ = fmt.Fprintln(w)
	}
	_, _ = fmt.Fprint(w, "all\t")
	for _, n := range sums {
		_, _ = fmt.Fprintf(w, "\t%d", n)
	}
	_, _ = fmt.Fprintln(w)
	if err := w.Flush(); err != nil {
		return err
	}
	for _, site := range slices.Sorted(maps.Keys(r.Drills)) {
		if n := r.Drills[site]; n < 2 {
			_, _ = fmt.Fprintf(to, "Note: %s had %d drills within the last twelve months; two a year are usual.\n", cell(site), n)
		}
	}
	if r.Missing > 0 {
		_, _ = fmt.Fprintf(to, "Note: %d reviews are of accesses that began in no log that was read; name the logs of all nodes.\n", r.Missing)
	}
	if unreadable > 0 {
		_, _ = fmt.Fprintf(to, "Note: %d lines are no records.\n", unreadable)
	}
	return nil
}
