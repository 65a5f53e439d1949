package caddymodule

import (
	"cmp"
	"errors"
	"fmt"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/anteroom-proxy/anteroom/policy"
	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	"github.com/spf13/cobra"
)

func init() {
	caddycmd.RegisterCommand(caddycmd.Command{
		Name:  "explain",
		Short: "Says how long sessions of some roles last, and which line decides",
		Long: "Reads a Caddyfile without running it and prints what holds for a person with these roles: the idle and the absolute lifetime of the session and how many sign-ins " +
			"there may be at once, each with the line it comes from, or `default`. Of several roles the strictest counts; what a role says replaces what is said for everybody. " +
			"It then prints for each site what happens when the store is lost and where people sign in. A role that no way to sign in gives is named in a warning. " +
			"No secret is read and nothing is opened; whether the config would load is the business of `validate`.",
		CobraFunc: guarded(explainCommand),
	})
}

func explainCommand(c *cobra.Command) {
	c.Use = "explain [--config FILE] [--adapter NAME] [--roles ROLE[,ROLE]] [--json]"
	c.Example = "  anteroom explain --config /etc/anteroom/Caddyfile --roles doctor,patient\n  anteroom explain --roles doctor --json"
	c.Args = cobra.NoArgs
	config := c.Flags().StringP("config", "c", "", "the Caddyfile (default: Caddyfile in this folder)")
	adapter := c.Flags().StringP("adapter", "a", "", "adapter of --config (default: by its name)")
	roles := c.Flags().StringSlice("roles", nil, "the person's roles, comma-separated; left out: somebody without a role")
	asJSON := c.Flags().Bool("json", false, "print JSON for programs")
	c.RunE = func(c *cobra.Command, _ []string) error {
		c.SilenceUsage = true
		for _, role := range *roles {
			if !policy.ValidRole(role) {
				return fmt.Errorf("explaining: role %q: a role's name has 1 to 64 letters, digits, `.`, `_`, `-`", role)
			}
		}
		adapted, _, _, err := caddycmd.LoadConfig(*config, *adapter)
		if err != nil {
			return fmt.Errorf("explaining: %w", err)
		}
		if len(adapted) == 0 {
			return errors.New("explaining: there is no config; name one with --config FILE")
		}
		e, err := explain(adapted, *roles)
		if err != nil {
			return fmt.Errorf("explaining: %w", err)
		}
		if *asJSON {
			return printJSON(c, e)
		}
		return printExplanation(c, e)
	}
}

func printExplanation(c *cobra.Command, e explanation) error {
	w := tabwriter.NewWriter(c.OutOrStdout(), 0, 0, 2, ' ', 0)
	who := "somebody without a role"
	if len(e.Roles) > 0 {
		who = strings.Join(e.Roles, ", ")
	}
	limit := "any number"
	if e.Sessions.Count > 0 {
		limit = fmt.Sprintf("%d, then %s", e.Sessions.Count, e.Sessions.OnLimit)
	}
	_, _ = fmt.Fprintf(w, "A session of %s:\n", who) // Flush tells of errors
	_, _ = fmt.Fprintf(w, "  idle\t%s\t%s\n", seconds(e.Idle.Seconds), e.Idle.origin)
	_, _ = fmt.Fprintf(w, "  absolute\t%s\t%s\n", seconds(e.Absolute.Seconds), e.Absolute.origin)
	_, _ = fmt.Fprintf(w, "  sessions\t%s\t%s\n", limit, e.Sessions.origin)
	if err := w.Flush(); err != nil {
		return err
	}
	if len(e.Sites) > 0 {
		_, _ = fmt.Fprint(w, "\nSITE\tLINE\tWHEN THE STORE IS LOST\tSIGNS IN AT\n")
	}
	for _, s := range e.Sites {
		portal := cmp.Or(s.Portal, "the site itself")
		loss := "nobody is let in"
		if s.OnStoreLoss != lossDeny {
			loss = "running sessions go on for " + seconds(s.Seconds)
		}
		_, _ = fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", cell(strings.Join(s.Hosts, ",")), cell(s.At), loss, cell(portal))
	}
	if err := w.Flush(); err != nil {
		return err
	}
	for _, warning := range e.Warnings {
		if _, err := fmt.Fprintf(c.OutOrStdout(), "\nWarning: %s.\n", printable(warning)); err != nil {
			return err
		}
	}
	return nil
}

func (o origin) String() string {
	if o.Role == "" {
		return o.From
	}
	return o.From + ", role " + o.Role
}

// seconds is a duration as the Caddyfile has it: 15m, not 15m0s.
func seconds(n int64) string {
	s := (time.Duration(n) * time.Second).String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}
