package caddymodule

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/anteroom-proxy/anteroom/policy/report"
	"github.com/caddyserver/caddy/v2"
	"github.com/spf13/cobra"
)

// policyMatrixCommand is `policy matrix`.
func policyMatrixCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "matrix [--site HOST] [--csv [FILE] | --html [FILE] | --json]",
		Short: "Shows who may do what where",
		Long: "Prints for each site a table: down the side the routes that its lines name, across the top everybody whom they name. A cell says yes, no, own (only where the name in the path is the person's own), " +
			"step-up (after a stronger or newer sign-in), if (under the conditions of the note), emergency (the glass may be broken) or sign-in. Each cell is the policy's own answer to a made-up request. " +
			"--csv writes one line for each cell and method, for a spreadsheet; --html one page for an auditor, which loads nothing, runs nothing, and can be printed. Without FILE, or with `-`, it is standard output. " +
			"The SHA-256 on the page is that of the file, and of what `anteroom adapt` makes of it, includes among it.",
		Example: "  anteroom policy matrix --config /etc/anteroom/Caddyfile\n  anteroom policy matrix --site medrecords.hospital.example --html matrix.html",
		Args:    cobra.MaximumNArgs(1), // the file of --csv or --html
	}
	var f policyFlags
	f.add(c)
	host := c.Flags().String("site", "", "only the site of this host")
	table := c.Flags().String("csv", "", "write CSV to this file")
	page := c.Flags().String("html", "", "write an HTML page to this file")
	date := c.Flags().String("date", "", "date on the page, as 2006-01-02 or RFC 3339 (default: now)")
	c.MarkFlagsMutuallyExclusive("csv", "html", "json")
	c.Flags().Lookup("csv").NoOptDefVal, c.Flags().Lookup("html").NoOptDefVal = "-", "-"
	c.RunE = func(c *cobra.Command, args []string) error {
		c.SilenceUsage = true
		if err := fileOf(args, table, page); err != nil {
			return err
		}
		g, err := f.load()
		if err != nil {
			return fmt.Errorf("making the matrix: %w", err)
		}
		made, err := dateOf(*date)
		if err != nil {
			return fmt.Errorf("making the matrix: %w", err)
		}
		var matrices []report.Matrix
		for _, s := range g.sites {
			if *host == "" || s.Serves(*host) {
				matrices = append(matrices, report.NewMatrix(s.Site))
			}
		}
		if len(matrices) == 0 {
			_, err := g.serving(*host)
			return fmt.Errorf("making the matrix: %w", err)
		}
		switch {
		case f.asJSON:
			return printJSON(c, struct {
				Sites []report.Matrix `json:"sites"`
			}{matrices})
		case *table != "":
			return into(c, *table, func(w io.Writer) error { return report.WriteCSV(w, matrices) })
		case *page != "":
			return into(c, *page, func(w io.Writer) error { return report.WriteHTML(w, matrices, g.page(made)) })
		}
		for i := range matrices {
			if i > 0 {
				_, _ = fmt.Fprintln(c.OutOrStdout()) // Table tells of errors
			}
			if err := matrices[i].Table(c.OutOrStdout()); err != nil {
				return err
			}
		}
		return nil
	}
	return c
}

// fileOf gives the file to the flag before it: a flag that may stand alone does not take the next word.
func fileOf(args []string, flags ...*string) error {
	if len(args) == 0 {
		return nil
	}
	for _, flag := range flags {
		if *flag == "-" {
			*flag = args[0]
			return nil
		}
	}
	return fmt.Errorf("making the matrix: %q has no meaning here; write --csv %s or --html %s", args[0], args[0], args[0])
}

// dateOf reads --date.
func dateOf(text string) (time.Time, error) {
	if text == "" {
		return time.Now(), nil
	}
	for _, layout := range []string{time.DateOnly, time.RFC3339} {
		if at, err := time.Parse(layout, text); err == nil {
			return at, nil
		}
	}
	return time.Time{}, fmt.Errorf("--date %q: write 2006-01-02 or 2006-01-02T15:04:05Z", text)
}

// page says what config it is.
func (g *judgedConfig) page(made time.Time) report.Page {
	by := caddy.CustomVersion // caddy.Version is that of Caddy within us
	if by == "" {
		by = "anteroom"
	}
	p := report.Page{Config: filepath.Base(g.file), Made: made, By: by}
	sum := func(b []byte) string {
		h := sha256.Sum256(b)
		return hex.EncodeToString(h[:])
	}
	if text, err := os.ReadFile(g.file); err == nil { // standard input was read before, and has no name
		p.Sums = append(p.Sums, [2]string{p.Config, sum(text)})
	}
	p.Sums = append(p.Sums, [2]string{"the adapted config", sum(g.adapted)})
	return p
}

// into writes a file that only its owner reads, or standard output for "-". A file that is half-written goes.
func into(c *cobra.Command, name string, write func(io.Writer) error) (err error) {
	if name == "-" {
		return write(c.OutOrStdout())
	}
	f, err := os.CreateTemp(filepath.Dir(name), ".anteroom-*")
	if err != nil {
		return fmt.Errorf("writing %s: %w", name, err)
	}
	if err = errors.Join(write(f), f.Close()); err == nil {
		err = os.Rename(f.Name(), name)
	}
	if err != nil {
		_ = os.Remove(f.Name())
		return fmt.Errorf("writing %s: %w", name, err)
	}
	_, err = fmt.Fprintf(c.ErrOrStderr(), "Written to %s.\n", printable(name))
	return err
}
