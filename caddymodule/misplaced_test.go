package caddymodule

import (
	"bytes"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

const (
	testSecretHalf = secretHalf + "-X25519:SINcceVyzxsTlv6_3Mq1pcmAD2Eaylhz9GDovT5jkVs"
	testCredential = "vJ0m7bYcTRW1nXfK2eQy5LsdUo9aZgH4/Pi8="
)

// Row 159: a secret in the place of a file's name, or of anything else, is refused by the adapter and not repeated: what it lets through
// is printed by `adapt` and logged by Caddy.
func TestMisplacedInCaddyfile(t *testing.T) {
	for _, line := range []string{
		"recovery " + testSecretHalf, "ring " + testSecretHalf, testSecretHalf, "subject " + testSecretHalf, "client_certificate " + testSecretHalf,
		"token_file " + testCredential, "client_certificate " + testCredential, "peer uid " + testCredential, "peer gid " + testSecretHalf,
	} {
		token := "token_file /run/token\n"
		if strings.HasPrefix(line, "token_file") {
			token = ""
		}
		_, err := adapt(t, "https://localhost:8444 {\nhmac_service {\nno_recovery\n"+token+line+"\n}\n}")
		if err == nil {
			t.Errorf("%q is adapted", line)
			continue
		}
		if text := err.Error(); strings.Contains(text, "SINcceVyzxs") || strings.Contains(text, testCredential) || !strings.Contains(text, "stands where others may read it") {
			t.Errorf("%q: %s", line, text)
		}
	}
}

// What may be the name of a file is taken for one.
func TestMisplacedOrPath(t *testing.T) {
	here := filepath.Join(t.TempDir(), "a-name-without-any-dot-but-of-many-letters")
	for _, path := range []string{"/etc/anteroom/" + strings.Repeat("x", 50), "token", "{file./run/" + strings.Repeat("x", 50) + "}", "./" + strings.Repeat("x", 50), strings.Repeat("x", 40) + ".pem", "sha256:" + strings.Repeat("0", 64), here} {
		if err := checkPath(path); err != nil {
			t.Errorf("%s: %v", path, err)
		}
	}
}

// Row 159: no command repeats the secret half of a recovery key, nor goes on with it.
func TestMisplacedOnCommandLine(t *testing.T) {
	for _, args := range [][]string{{testSecretHalf}, {"--flag", testSecretHalf}, {"--flag=" + testSecretHalf}, {"sub", testSecretHalf}, {"sub", "x", testSecretHalf}} {
		ran := false
		c := &cobra.Command{Use: "test", SilenceUsage: true}
		guarded(func(c *cobra.Command) {
			run := func(*cobra.Command, []string) error { ran = true; return nil }
			c.Args, c.RunE = cobra.NoArgs, run
			c.Flags().String("flag", "", "")
			c.AddCommand(&cobra.Command{Use: "sub", RunE: run})
		})(c)
		var out bytes.Buffer
		c.SetOut(&out)
		c.SetErr(&out)
		c.SetArgs(args)
		if err := c.Execute(); err == nil || ran || strings.Contains(out.String(), "SINcceVyzxs") {
			t.Errorf("%q: %v, ran %v, %s", args, err, ran, out.String())
		}
	}
	// Control: what is none goes on as ever.
	c := &cobra.Command{Use: "test", SilenceUsage: true}
	guarded(func(c *cobra.Command) {
		c.Args, c.RunE = cobra.ExactArgs(1), func(*cobra.Command, []string) error { return nil }
	})(c)
	for args, want := range map[string]bool{"one": true, "one two": false} {
		c.SetArgs(strings.Fields(args))
		c.SetErr(new(bytes.Buffer))
		if err := c.Execute(); (err == nil) != want {
			t.Errorf("%s: %v", args, err)
		}
	}
}
