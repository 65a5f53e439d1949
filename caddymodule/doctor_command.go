package caddymodule

import (
	"errors"
	"fmt"
	"slices"
	"text/tabwriter"

	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	"github.com/spf13/cobra"
)

func init() {
	caddycmd.RegisterCommand(caddycmd.Command{
		Name:  "doctor",
		Short: "Looks whether everything is there that Anteroom needs, and says what to do",
		Long: "Reads a Caddyfile, loads it as `validate` does, and then asks: each provider for its metadata, keys and what sign-in needs of it; the store whether it answers and what time " +
			"it has there; the folders whether they can be written to; each site for its certificate. It prints one line each: ok, warn or fail, what it is about, what was found and the remedy. " +
			"It writes nothing that lasts, signs nobody in and can run beside a running server, best as the same user. The exit code is 1 when a line says fail.",
		CobraFunc: guarded(doctorCommand),
	})
}

var errUnwell = errors.New("something has to be mended, see the lines that say fail")

func doctorCommand(c *cobra.Command) {
	c.Use = "doctor [--config FILE] [--adapter NAME] [--json]"
	c.Example = "  anteroom doctor --config /etc/anteroom/Caddyfile"
	c.Args = cobra.NoArgs
	config := c.Flags().StringP("config", "c", "", "the Caddyfile (default: Caddyfile in this folder)")
	adapter := c.Flags().StringP("adapter", "a", "", "adapter of --config (default: by its name)")
	asJSON := c.Flags().Bool("json", false, "print JSON for programs")
	c.RunE = func(c *cobra.Command, _ []string) error {
		c.SilenceUsage = true
		adapted, _, _, err := caddycmd.LoadConfig(*config, *adapter)
		if err != nil {
			return fmt.Errorf("doctor: %w", err)
		}
		if len(adapted) == 0 {
			return errors.New("doctor: there is no config; name one with --config FILE")
		}
		found := diagnose(c.Context(), adapted)
		if *asJSON {
			err = printJSON(c, found)
		} else {
			err = printFindings(c, found)
		}
		if err == nil && slices.ContainsFunc(found, func(f finding) bool { return f.State == stateFail }) {
			return errUnwell
		}
		return err
	}
}

func printFindings(c *cobra.Command, found []finding) error {
	w := tabwriter.NewWriter(c.OutOrStdout(), 0, 0, 2, ' ', 0)
	for _, f := range found {
		text := printable(f.What)
		if f.Remedy != "" {
			text += " → " + printable(f.Remedy)
		}
		_, _ = fmt.Fprintf(w, "%s\t%s\t%s\n", f.State, cell(f.About), text) // Flush tells of errors
	}
	return w.Flush()
}
