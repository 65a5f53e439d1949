package caddymodule

import (
	"context"
	"crypto"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/anteroom-proxy/anteroom/hardening"
	"github.com/anteroom-proxy/anteroom/store/bolt"
	"github.com/caddyserver/caddy/v2"
	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	"github.com/caddyserver/certmagic"
	"github.com/spf13/cobra"
)

func init() {
	caddycmd.RegisterCommand(caddycmd.Command{
		Name:  "keys",
		Short: "Shows, rotates and replaces every kind of key: master, data, signing, password rings",
		Long: "`status` shows what is sealed by what. When a key may have leaked: `compromised ID --dry-run`, then `compromised ID`; at the end there is a `report`. " +
			"`list`, `rotate` and `kill` alone are about the keys that sign sessions and assertions; `ring` is about the password rings of hmac_service and their recovery key. " +
			"All but `ring recovery-key` ask the running program over its admin interface.",
		CobraFunc: guarded(keysCommand),
	})
}

func keysCommand(c *cobra.Command) {
	ring := &cobra.Command{Use: "ring", Short: "Password rings of hmac_service"}
	ring.AddCommand(recoveryKeyCommand(), recoverCommand())
	ring.AddCommand(ringCommands()...)
	c.Example = "  anteroom keys list --config /etc/anteroom/Caddyfile\n  anteroom keys ring recovery-key --out /media/stick/recovery.key"
	c.AddCommand(ring, keysListCommand(), keysRotateCommand(), keysKillCommand(),
		keysStatusCommand(), keysCompromisedCommand(), keysMigrateCommand(), keysReportCommand(), keysDestroyCommand())
}

// recoveryKeyCommand is `keys ring recovery-key`.
func recoveryKeyCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "recovery-key --out FILE",
		Short: "Makes an offline recovery key; prints its public half for the `recovery` line",
		Long: "Makes a key pair that can always open a password ring. The secret half goes into FILE (mode 0600, never over an existing file): " +
			"move it off this machine. The public half is printed for the `recovery` line of hmac_service.",
		Args: cobra.NoArgs,
	}
	out := c.Flags().String("out", "", "file for the secret half (required)")
	hybrid := c.Flags().Bool("hybrid", false, "X25519 with ML-KEM-768: also safe from quantum computers, with a public half of 1622 characters")
	c.RunE = func(c *cobra.Command, _ []string) error {
		c.SilenceUsage = true
		if *out == "" {
			return errors.New("making recovery key: --out FILE is missing")
		}
		public, err := MakeRecoveryKey(*out, *hybrid)
		if err != nil {
			return err
		}
		_, err = fmt.Fprintln(c.OutOrStdout(), public)
		return err
	}
	return c
}

// MakeRecoveryKey writes the secret half of a new recovery key into a file of mode 0600, never over an existing one, and
// returns the public half for the `recovery` line. hybrid adds ML-KEM-768.
func MakeRecoveryKey(file string, hybrid bool) (public string, err error) {
	key, err := hardening.GenerateRecoveryKey(hybrid)
	if err != nil {
		return "", err
	}
	recipient, err := key.Recipient()
	if err != nil {
		return "", err
	}
	text, err := key.Text()
	if err != nil {
		return "", err
	}
	defer clear(text)
	f, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return "", fmt.Errorf("making recovery key: %w", err)
	}
	_, err = f.Write(text)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return "", fmt.Errorf("making recovery key: %w", err)
	}
	return recipient.String(), nil
}

// recoverFlags are the flags of `keys ring recover`.
type recoverFlags struct {
	ringFlags
	key, certKey, store string
}

// recoverCommand is `keys ring recover`.
func recoverCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "recover --key FILE [--cert-key FILE [--store PATH]] [--ring NAME]",
		Short: "Opens a locked ring with the recovery key and wraps it for a TLS key",
		Long: "Opens a locked ring with the offline recovery key and wraps it for the TLS key that the site has now. No record changes. " +
			"It asks the running program, which has the store and the TLS key; one node is enough when several share a store. " +
			"With --cert-key it opens the embedded store itself: stop the program first, since that store belongs to one process.",
		Example: "  anteroom keys ring recover --key /media/stick/recovery.key --config /etc/anteroom/Caddyfile",
		Args:    cobra.NoArgs,
	}
	var f recoverFlags
	f.add(c)
	c.Flags().StringVar(&f.key, "key", "", "file of the recovery key (required)")
	c.Flags().StringVar(&f.certKey, "cert-key", "", "private key of the site's certificate, PEM; the program is stopped")
	c.Flags().StringVar(&f.store, "store", "", "file of the embedded store, with --cert-key (default: under Caddy's data directory)")
	c.RunE = func(c *cobra.Command, _ []string) error {
		c.SilenceUsage = true
		if f.key != "" && f.certKey == "" && f.store == "" {
			return recoverRunning(c, f)
		}
		name, err := recoverRing(c.Context(), f)
		if err != nil {
			return err
		}
		_, err = fmt.Fprintf(c.OutOrStdout(), "The ring %s opens with the TLS key of %s now. Start the program; then put the recovery key away again.\n", name, f.certKey)
		return err
	}
	return c
}

// recoverRunning has the running program do it.
func recoverRunning(c *cobra.Command, f recoverFlags) error {
	text, err := readSmall(f.key)
	if err != nil {
		return fmt.Errorf("recovering ring: %w", err)
	}
	defer clear(text)
	if _, err := hardening.ParseRecoveryKey(text); err != nil {
		return fmt.Errorf("recovering ring: %s: %w", f.key, err)
	}
	return ringOrder(c, f.ringFlags, "recover", map[string]any{"key": string(text)}, "asking the running program", "The ring is open. Put the recovery key away again.")
}

func recoverRing(ctx context.Context, f recoverFlags) (name string, err error) {
	if f.key == "" || f.certKey == "" {
		return "", errors.New("recovering ring: --key FILE is needed; with --store PATH, --cert-key FILE too")
	}
	if ctx == nil {
		ctx = context.Background()
	}
	text, err := os.ReadFile(f.key)
	if err != nil {
		return "", fmt.Errorf("recovering ring: %w", err)
	}
	defer clear(text)
	secret, err := hardening.ParseRecoveryKey(text)
	if err != nil {
		return "", fmt.Errorf("recovering ring: %s: %w", f.key, err)
	}
	tlsKey, err := readTLSKey(f.certKey)
	if err != nil {
		return "", fmt.Errorf("recovering ring: %w", err)
	}
	if f.store == "" {
		f.store = filepath.Join(caddy.AppDataDir(), "anteroom", "store.db")
	}
	if _, err := os.Stat(f.store); err != nil { // opening would make an empty one
		return "", fmt.Errorf("recovering ring: %w; write --store PATH", err)
	}
	st, err := bolt.Open(bolt.Config{Path: f.store})
	if err != nil {
		return "", fmt.Errorf("recovering ring: %w", err)
	}
	defer func() { err = errors.Join(err, st.Close()) }()
	if f.ring == "" {
		if f.ring, err = hardening.OnlyRing(ctx, st); err != nil {
			return "", fmt.Errorf("recovering ring: %w; write --ring NAME", err)
		}
	}
	return f.ring, hardening.Recover(ctx, hardening.RingConfig{
		Name: f.ring, Store: st,
		Keys: func(context.Context) ([]hardening.TLSKey, error) { return []hardening.TLSKey{tlsKey}, nil },
	}, secret)
}

// readTLSKey reads a private key in any of the PEM forms that Caddy reads. The end of its certificate is not known here;
// the service moves it when it sees the certificate.
func readTLSKey(path string) (hardening.TLSKey, error) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return hardening.TLSKey{}, err
	}
	defer clear(raw)
	var key crypto.PrivateKey
	for rest := raw; ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			return hardening.TLSKey{}, fmt.Errorf("%s: no private key in PEM is in it", path)
		}
		if key, err = certmagic.PEMDecodePrivateKey(pem.EncodeToMemory(block)); err == nil {
			return hardening.NewTLSKey(key, time.Now().Add(24*time.Hour))
		}
	}
}
