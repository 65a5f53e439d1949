package caddymodule

import (
	"errors"
	"fmt"
	"time"

	"github.com/anteroom-proxy/anteroom/policy"
	"github.com/spf13/cobra"
)

// errUnexpected makes the exit code 1 when the lines that say why are printed.
var errUnexpected = errors.New("the policy does not do what is expected of it, see above")

// expectations are how one site does.
type expectations struct {
	Site     string        `json:"site"`
	At       string        `json:"at"`
	Hold     int           `json:"hold"`
	Failures []expectation `json:"failures"`
	Warnings []string      `json:"warnings"`
}

// expectation is one that does not hold.
type expectation struct {
	At    string `json:"at"`
	Line  string `json:"line"`
	Wrong string `json:"wrong"`
	Write string `json:"write,omitempty"`
}

// policyTestCommand is `policy test`.
func policyTestCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "test",
		Short: "Holds the policies against the expectations of the config",
		Long: "Runs the `expect` lines of all sites, as every start and reload does, and prints each that does not hold, with the line that decided. " +
			"The exit code is 1 when one does not. What the policy itself warns of is printed, too, and a site without an expectation.",
		Example: "  anteroom policy test --config /etc/anteroom/Caddyfile",
		Args:    cobra.NoArgs,
	}
	var f policyFlags
	f.add(c)
	c.RunE = func(c *cobra.Command, _ []string) error {
		c.SilenceUsage = true
		g, err := f.load()
		if err != nil {
			return fmt.Errorf("testing the policy: %w", err)
		}
		var all []expectations
		failed := false
		for _, s := range g.sites {
			e := s.expectations(time.Now())
			failed = failed || len(e.Failures) > 0
			all = append(all, e)
		}
		if f.asJSON {
			err = printJSON(c, struct {
				Sites []expectations `json:"sites"`
			}{all})
		} else {
			err = printExpectations(c, all)
		}
		if err == nil && failed {
			return errUnexpected
		}
		return err
	}
	return c
}

// expectations runs those of one site.
func (s *judgedSite) expectations(now time.Time) expectations {
	e := expectations{Site: s.Name(), At: s.At, Failures: []expectation{}, Warnings: []string{}}
	for _, warning := range s.Policy.Warnings() {
		e.Warnings = append(e.Warnings, warning.Error())
	}
	for _, line := range linesOf(s.site.Expect) {
		expected, err := policy.ParseExpectation(line)
		if err == nil {
			err = s.Policy.Check(expected, now)
		}
		if err == nil {
			e.Hold++
			continue
		}
		e.Failures = append(e.Failures, failuresOf(line, err)...)
	}
	if len(s.site.Expect) == 0 && !s.site.onlyPortal() {
		e.Warnings = append(e.Warnings, fmt.Sprintf("%s has no `expect` line, so that an edit can open something unnoticed; write for example `expect anonymous GET / login`", s.Name()))
	}
	return e
}

// failuresOf takes an error apart that can join several problems.
func failuresOf(line policy.Line, err error) (list []expectation) {
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		for _, each := range joined.Unwrap() {
			list = append(list, failuresOf(line, each)...)
		}
		return list
	}
	var p *policy.Problem
	if errors.As(err, &p) {
		return []expectation{{p.At, p.Line, p.Wrong, p.Write}}
	}
	return []expectation{{At: line.At, Wrong: err.Error()}}
}

func printExpectations(c *cobra.Command, all []expectations) error {
	out := c.OutOrStdout()
	hold, failures := 0, 0
	for _, e := range all {
		hold, failures = hold+e.Hold, failures+len(e.Failures)
		for _, x := range e.Failures {
			text := (&policy.Problem{At: x.At, Line: x.Line, Wrong: x.Wrong, Write: x.Write}).Error()
			if x.Write == "" {
				text = x.At + ": " + x.Wrong
			}
			_, _ = fmt.Fprintf(out, "FAILS %s: %s\n", printable(e.Site), printable(text)) // the last write tells of errors
		}
		for _, warning := range e.Warnings {
			_, _ = fmt.Fprintf(out, "Warning: %s\n", printable(warning))
		}
	}
	_, err := fmt.Fprintf(out, "Expectations: %d hold, %d do not.\n", hold, failures)
	return err
}
