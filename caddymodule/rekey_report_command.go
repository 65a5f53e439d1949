package caddymodule

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/url"
	"os"
	"text/tabwriter"

	"github.com/anteroom-proxy/anteroom/rekey"
	"github.com/spf13/cobra"
)

// keysReportCommand is `keys report`.
func keysReportCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "report [ID] [--json | --html FILE | --list | --watch]",
		Short: "Prints the report of an operation on keys",
		Long: "Prints the report of an operation, the last one without ID: JSON, byte by byte as its SHA-256 stands in the audit log; with --html also as a page that loads nothing, for a screen or for paper. " +
			"--list names all reports, --watch follows the operation that is under way.",
		Example: "  anteroom keys report --html /root/report.html\n  anteroom keys report 7K2M9Q4T1V --json",
		Args:    cobra.MaximumNArgs(1),
	}
	var f adminFlags
	f.add(c)
	asJSON := c.Flags().Bool("json", false, "print the report's JSON (the default)")
	html := c.Flags().String("html", "", "write the report as a page into this file")
	list := c.Flags().Bool("list", false, "list all reports")
	watch := c.Flags().Bool("watch", false, "follow the operation that is under way")
	c.MarkFlagsMutuallyExclusive("json", "html", "list", "watch")
	c.RunE = func(c *cobra.Command, args []string) error {
		c.SilenceUsage = true
		_ = *asJSON
		switch {
		case *list:
			return listReports(c, f)
		case *watch:
			var answer keyAnswer
			if err := f.call(adminPath+"keys/operation", nil, &answer); err != nil {
				return fmt.Errorf("asking for the operation: %w", err)
			}
			if answer.Operation == nil {
				return errors.New("no operation on keys is under way")
			}
			return watchKeys(c, f, answer.Operation)
		}
		path := adminPath + "keys/report"
		if len(args) == 1 {
			if len(args[0]) > 32 { // an address is in the log of the program; what is no id does not belong there
				return errors.New("asking for the report: an id has ten letters and digits; `anteroom keys report --list` shows them")
			}
			path += "?id=" + url.QueryEscape(args[0])
		}
		var answer keyReport
		if err := f.call(path, nil, &answer); err != nil {
			return fmt.Errorf("asking for the report: %w", err)
		}
		if *html != "" {
			return writePage(c, []byte(answer.Report), *html)
		}
		_, err := c.OutOrStdout().Write([]byte(answer.Report))
		return err
	}
	return c
}

// writePage writes the page, with mode 0600: it names keys and counts.
func writePage(c *cobra.Command, text []byte, file string) error {
	var b bytes.Buffer
	if err := rekey.WriteHTML(&b, text); err != nil {
		return err
	}
	if err := os.WriteFile(file, b.Bytes(), 0o600); err != nil {
		return fmt.Errorf("writing the report: %w", err)
	}
	sum := sha256.Sum256(text)
	_, err := fmt.Fprintf(c.OutOrStdout(), "Written to %s. SHA-256 of the JSON report: %s\n", file, hex.EncodeToString(sum[:]))
	return err
}

func listReports(c *cobra.Command, f adminFlags) error {
	var answer struct {
		Reports []rekey.Kept `json:"reports"`
	}
	if err := f.call(adminPath+"keys/reports", nil, &answer); err != nil {
		return fmt.Errorf("listing reports: %w", err)
	}
	w := tabwriter.NewWriter(c.OutOrStdout(), 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(w, "REPORT\tENDED\tOPERATION\tKEY") // Flush tells of errors
	for _, r := range answer.Reports {
		_, _ = fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", cell(r.ID), localTime(r.Ended), cell(string(r.Verb)), cell(r.Target))
	}
	return w.Flush()
}

// keysDestroyCommand is `keys destroy`.
func keysDestroyCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "destroy ID --force",
		Short: "Destroys a data key of applications, when they have sealed everything anew",
		Long: "Removes a data key of /envelope-service for good. Only the applications know what they keep: have each of them ask `census` for all of it first. What is still under the key is lost. " +
			"Anteroom's own data keys are destroyed by `keys compromised`, which looks for itself.",
		Example: "  anteroom keys destroy 5f0c9a4be1d27380 --force",
		Args:    cobra.ExactArgs(1),
	}
	var f adminFlags
	f.add(c)
	force := c.Flags().Bool("force", false, "the applications' census does not name the key any more")
	c.RunE = func(c *cobra.Command, args []string) error {
		c.SilenceUsage = true
		var answer struct {
			Apps []rekey.Key `json:"apps"`
		}
		if err := f.call(adminPath+"keys/destroy", map[string]any{"id": args[0], "force": *force}, &answer); err != nil {
			return fmt.Errorf("destroying key %s: %w", printable(args[0]), err)
		}
		_, err := fmt.Fprintln(c.OutOrStdout(), "The data key is destroyed.")
		return err
	}
	return c
}
