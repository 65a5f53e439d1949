package caddymodule

import (
	"errors"
	"fmt"
	"strings"

	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	"github.com/spf13/cobra"
)

func init() {
	caddycmd.RegisterCommand(caddycmd.Command{
		Name:  "policy",
		Short: "Says who may do what, and why, and what a change would change",
		Long: "Asks the policies of a Caddyfile without running it: why a request is allowed or denied, who may do what where, whether the expectations hold, what changes between two configs, " +
			"and how the requests of an audit log would be decided now. No secret is read, nothing is opened, and nothing is sent.",
		CobraFunc: guarded(func(c *cobra.Command) {
			c.Example = "  anteroom policy explain --as doctor GET https://medrecords.hospital.example/patients/7\n  anteroom policy matrix --html matrix.html\n  anteroom policy diff Caddyfile.old Caddyfile --exit-code"
			c.AddCommand(policyExplainCommand(), policyMatrixCommand(), policyTestCommand(), policyDiffCommand(), policyReplayCommand())
		}),
	})
}

// policyFlags say which config is read, and how the answer is printed.
type policyFlags struct {
	config, adapter string
	asJSON          bool
}

func (f *policyFlags) add(c *cobra.Command) {
	c.Flags().StringVarP(&f.config, "config", "c", "", "the Caddyfile (default: Caddyfile in this folder)")
	f.addFormat(c)
}

// addFormat is for commands that name their configs themselves.
func (f *policyFlags) addFormat(c *cobra.Command) {
	c.Flags().StringVarP(&f.adapter, "adapter", "a", "", "adapter of the config (default: by its name)")
	c.Flags().BoolVar(&f.asJSON, "json", false, "print JSON for programs")
}

// load reads and adapts the config.
func (f *policyFlags) load() (*judgedConfig, error) { return loadJudged(f.config, f.adapter) }

// loadJudged reads a config and compiles the policies of its sites.
func loadJudged(file, adapter string) (*judgedConfig, error) {
	adapted, used, _, err := caddycmd.LoadConfig(file, adapter)
	if err != nil {
		return nil, shownError{err}
	}
	if len(adapted) == 0 {
		return nil, errors.New("there is no config; name one with --config FILE")
	}
	g, err := readJudged(adapted)
	if err != nil {
		return nil, shownError{fmt.Errorf("%s: %w", printable(used), err)}
	}
	g.file = used
	return g, nil
}

// shownError is an error whose text cannot act on a terminal: it quotes a config, which may be somebody's proposal. Its lines stay.
type shownError struct{ error }

func (e shownError) Unwrap() error { return e.error }

func (e shownError) Error() string {
	lines := strings.Split(e.error.Error(), "\n")
	for i := range lines {
		lines[i] = printable(lines[i])
	}
	return strings.Join(lines, "\n")
}
