package caddymodule

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/anteroom-proxy/anteroom/hardening"
	"github.com/spf13/cobra"
)

// maxRingFile bounds the files that the commands below read.
const maxRingFile = 1 << 20

func ringExportCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "export --to PUBKEY --out FILE",
		Short: "Writes the ring for another site, sealed to a recovery key",
		Long: "Seals the ring to the public half of a recovery key and writes it to FILE (mode 0600, never over an existing file). Whoever has the secret half reads the peppers. " +
			"Compare the SHA-256 that is printed with the one that `import` prints on the other side.",
		Example: "  anteroom keys ring export --to yWrrCUPl1BLx9wtl_lEYnEnVRFtPXBWDkoEBzGBn5nA --out ring.export",
		Args:    cobra.NoArgs,
	}
	var f ringFlags
	f.add(c)
	to := c.Flags().String("to", "", "public half of the recovery key (required)")
	out := c.Flags().String("out", "", "file to write (required)")
	c.RunE = func(c *cobra.Command, _ []string) error {
		c.SilenceUsage = true
		if *to == "" || *out == "" {
			return errors.New("exporting the ring: --to PUBKEY and --out FILE are both needed")
		}
		var answer ringFile
		if err := f.order("export", map[string]any{"to": *to}, &answer); err != nil {
			return fmt.Errorf("exporting the ring: %w", err)
		}
		file, err := os.OpenFile(*out, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
		if err != nil {
			return fmt.Errorf("exporting the ring: %w", err)
		}
		_, err = file.Write(answer.File)
		if err = errors.Join(err, file.Sync(), file.Close()); err != nil {
			return fmt.Errorf("exporting the ring: %w", err)
		}
		_, err = fmt.Fprintln(c.OutOrStdout(), answer.SHA256, printable(*out))
		return err
	}
	return c
}

func ringImportCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "import --key FILE IN",
		Short: "Brings in a ring that another site exported",
		Long: "Opens the file IN with the secret half of the recovery key and makes it the ring here. There must be no ring of that name yet (write `ring NAME existing`, so that none is made), or it must " +
			"be the same one, of which the other site has a newer state. Another ring is never replaced.",
		Example: "  anteroom keys ring import --key /media/stick/recovery.key ring.export",
		Args:    cobra.ExactArgs(1),
	}
	var f ringFlags
	f.add(c)
	key := c.Flags().String("key", "", "file of the recovery key (required)")
	c.RunE = func(c *cobra.Command, args []string) error {
		c.SilenceUsage = true
		if *key == "" {
			return errors.New("importing a ring: --key FILE is missing")
		}
		text, err := readSmall(*key)
		if err != nil {
			return fmt.Errorf("importing a ring: %w", err)
		}
		defer clear(text)
		if _, err := hardening.ParseRecoveryKey(text); err != nil {
			return fmt.Errorf("importing a ring: %s: %w", *key, err)
		}
		file, err := readSmall(args[0])
		if err != nil {
			return fmt.Errorf("importing a ring: %w", err)
		}
		return ringOrder(c, f, "import", map[string]any{"key": string(text), "file": file}, "importing a ring", sumOf(file)+" "+printable(args[0])+"\nThe ring is here.")
	}
	return c
}

func ringOriginalCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "import-original --key PEM|--effective FILE",
		Short: "Adds the key of digests that the original GET form made elsewhere",
		Long: "Adds an old TLS private key, of which only SHA-256 of its PEM text is kept, or those 32 bytes themselves; prints the name that the records of such digests carry (d:…). " +
			"They verify under it, and `upgrade` lays a pepper over them.",
		Example: "  anteroom keys ring import-original --key /etc/ssl/private/old.key",
		Args:    cobra.NoArgs,
	}
	var f ringFlags
	f.add(c)
	key := c.Flags().String("key", "", "file of the old private key, PEM")
	effective := c.Flags().String("effective", "", "file with its effective key: 64 hexadecimal digits")
	c.RunE = func(c *cobra.Command, _ []string) error {
		c.SilenceUsage = true
		if (*key == "") == (*effective == "") {
			return errors.New("importing a key: one of --key FILE and --effective FILE is needed")
		}
		name, path := "key", *key
		if path == "" {
			name, path = "effective", *effective
		}
		text, err := readSmall(path)
		if err != nil {
			return fmt.Errorf("importing a key: %w", err)
		}
		defer clear(text)
		var answer importedKey
		if err := f.order("import-original", map[string]any{name: string(bytes.TrimSpace(text))}, &answer); err != nil {
			return fmt.Errorf("importing a key: %w", err)
		}
		_, err = fmt.Fprintln(c.OutOrStdout(), printable(answer.ID))
		return err
	}
	return c
}

func sumOf(file []byte) string {
	sum := sha256.Sum256(file)
	return hex.EncodeToString(sum[:])
}

// readSmall reads a file that is no larger than a key or a ring.
func readSmall(path string) ([]byte, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	raw, err := io.ReadAll(io.LimitReader(file, maxRingFile+1))
	if err == nil && len(raw) > maxRingFile {
		err = fmt.Errorf("%s is too large", path)
	}
	return raw, err
}
