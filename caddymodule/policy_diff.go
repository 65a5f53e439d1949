package caddymodule

import (
	"errors"
	"fmt"

	"github.com/anteroom-proxy/anteroom/policy/report"
	"github.com/spf13/cobra"
)

// errOpens makes the exit code 1 when what opens is printed.
var errOpens = errors.New("something opens, or may open, see above")

// policyDiffCommand is `policy diff`.
func policyDiffCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "diff OLD NEW [--exit-code]",
		Short: "Shows which decisions change between two configs",
		Long: "Asks the policies of both Caddyfiles the same, for everybody whom lines of either name, for the routes of all lines that differ or overlap with one that does, for what lies beside these (a segment more or less, a slash at the end, capitals, " +
			"percent-encoding), and at the borders of networks, hours and levels. It prints what opens, what changes its conditions, and what closes. " +
			"With --exit-code the exit code is 1 when something opens or may open. What gives somebody a role is not compared: look at the identity lines.",
		Example: "  anteroom policy diff Caddyfile.old Caddyfile --exit-code",
		Args:    cobra.ExactArgs(2),
	}
	var f policyFlags
	f.addFormat(c)
	code := c.Flags().Bool("exit-code", false, "exit with 1 when something opens or may open")
	c.RunE = func(c *cobra.Command, args []string) error {
		c.SilenceUsage = true
		before, err1 := loadJudged(args[0], f.adapter)
		after, err2 := loadJudged(args[1], f.adapter)
		if err := errors.Join(err1, err2); err != nil {
			return fmt.Errorf("comparing: %w", err)
		}
		changes := report.Compare(before.reports(), after.reports())
		var err error
		if f.asJSON {
			err = printJSON(c, changes)
		} else {
			err = changes.Write(c.OutOrStdout())
		}
		if err == nil && *code && changes.Opens() {
			return errOpens
		}
		return err
	}
	return c
}
