package caddymodule

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

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
			"percent-encoding), and at the borders of networks, hours and levels. It prints what opens, what changes its conditions, and what closes, and what else of a site's block differs: budgets, origins, tokens, on_store_loss, the assertion. " +
			"With --exit-code the exit code is 1 when something opens or may open, and when there was too much to compare all of it. What gives somebody a role is not compared: look at the identity lines.",
		Example: "  anteroom policy diff Caddyfile.old Caddyfile --exit-code",
		Args:    cobra.ExactArgs(2),
	}
	var f policyFlags
	f.addFormat(c)
	code := c.Flags().Bool("exit-code", false, "exit with 1 when something opens or may open, or not all could be compared")
	c.RunE = func(c *cobra.Command, args []string) error {
		c.SilenceUsage = true
		before, err1 := loadJudged(args[0], f.adapter)
		after, err2 := loadJudged(args[1], f.adapter)
		if err := errors.Join(err1, err2); err != nil {
			return fmt.Errorf("comparing: %w", err)
		}
		changes := report.Compare(before.reports(), after.reports())
		changes.Beside = beside(before, after)
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

// beside are the lines of a site's block that one config has and the other has not, and that are no decisions, or more than one: a
// budget that goes lets somebody read more, an origin or an issuer that comes lets somebody in, a break_glass line that comes in the
// place of another may ask for less.
func beside(before, after *judgedConfig) []report.Beside {
	list := []report.Beside{}
	add := func(site string, lines, others []string, gone bool) {
		for _, line := range lines {
			if !slices.Contains(others, line) {
				restricts := strings.HasPrefix(line, "budget ") || strings.HasPrefix(line, "bearer audience ")
				list = append(list, report.Beside{Site: site, Line: line, Gone: gone, Opens: restricts == gone})
			}
		}
	}
	done := map[[2]*judgedSite]bool{}
	for _, s := range after.sites {
		for _, host := range s.Hosts {
			old, err := before.serving(host)
			if err != nil || done[[2]*judgedSite{old, s}] {
				continue
			}
			done[[2]*judgedSite{old, s}] = true
			was, is := old.site.beside(before.app), s.site.beside(after.app)
			add(host, was, is, true)
			add(host, is, was, false)
		}
	}
	return list
}

// beside are the lines of the block that change no decision of the policy itself.
func (s *Site) beside(a *App) (lines []string) {
	expanded, _ := a.expand(s.Rules) // it was compiled before
	for _, r := range expanded {
		if r.Words[0] == "budget" || r.Words[0] == "break_glass" { // what a form asks for is no decision
			lines = append(lines, strings.Join(r.Words, " "))
		}
	}
	for _, origin := range s.AllowOrigins {
		lines = append(lines, "allow_origin "+strings.ToLower(origin))
	}
	for _, name := range s.Bearer.From {
		lines = append(lines, "bearer from "+name)
	}
	for _, o := range []struct {
		set  bool
		line string
	}{
		{s.Bearer.Audience != "", "bearer audience " + s.Bearer.Audience}, {s.Bearer.Unbound, "bearer unbound allow"}, {s.NoAssertion, "assertion off"},
		{s.Audience != "", "assertion audience " + s.Audience}, {s.OnStoreLoss > 0, "on_store_loss running_sessions " + seconds(int64(time.Duration(s.OnStoreLoss)/time.Second))},
	} {
		if o.set {
			lines = append(lines, o.line)
		}
	}
	slices.Sort(lines)
	return slices.Compact(lines)
}
