package caddymodule

import (
	"cmp"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/anteroom-proxy/anteroom/policy/report"
	"github.com/spf13/cobra"
)

// policyReplayCommand is `policy replay`.
func policyReplayCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "replay AUDITLOG…",
		Short: "Shows how the requests of an audit log would be decided now",
		Long: "Reads files of the audit log, or a folder of them, or `-` for standard input, and decides each request again by this config: from its site, method, path, roles, name, source, address, time and level. " +
			"It counts what is decided as before, what would be allowed or denied instead, and what cannot be told: the log keeps no names in paths (a `*` stands there), no groups, no claims and no query, " +
			"and where a line asks for these it guesses nothing. Lines that are no records are counted. The log is only read, also while it is being written.",
		Example: "  anteroom policy replay /var/lib/anteroom/audit --config Caddyfile.new\n  anteroom policy replay audit-2026-11-22.jsonl --json",
		Args:    cobra.MinimumNArgs(1),
	}
	var f policyFlags
	f.add(c)
	c.RunE = func(c *cobra.Command, args []string) error {
		c.SilenceUsage = true
		g, err := f.load()
		if err != nil {
			return fmt.Errorf("replaying: %w", err)
		}
		files, err := auditFiles(args)
		if err != nil {
			return fmt.Errorf("replaying: %w", err)
		}
		replay := report.NewReplay(g.reports())
		for _, name := range files {
			if err := replayFile(replay, name, c.InOrStdin()); err != nil {
				return fmt.Errorf("replaying %s: %w", printable(name), err)
			}
		}
		if f.asJSON {
			return printJSON(c, replay.Result())
		}
		return replay.Result().Write(c.OutOrStdout())
	}
	return c
}

func replayFile(replay *report.Replay, name string, stdin io.Reader) error {
	if name == "-" {
		return replay.Read(stdin)
	}
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	return replay.Read(f)
}

// auditFiles puts the files of a folder into its place, oldest first.
func auditFiles(args []string) (files []string, err error) {
	for _, arg := range args {
		info, err := os.Stat(arg)
		if arg == "-" || err == nil && !info.IsDir() {
			files = append(files, arg)
			continue
		}
		if err != nil {
			return nil, err
		}
		found, err := filepath.Glob(filepath.Join(globEscape(arg), "audit-*.jsonl"))
		if err != nil {
			return nil, err
		}
		if len(found) == 0 {
			return nil, fmt.Errorf("%s has no file audit-….jsonl", printable(arg))
		}
		slices.SortFunc(found, compareParts)
		files = append(files, found...)
	}
	return files, nil
}

// compareParts orders audit-DAY.jsonl before audit-DAY-2.jsonl before audit-DAY-10.jsonl.
func compareParts(a, b string) int {
	dayA, partA := dayAndPart(a)
	dayB, partB := dayAndPart(b)
	return cmp.Or(strings.Compare(dayA, dayB), cmp.Compare(partA, partB), strings.Compare(a, b))
}

func dayAndPart(path string) (day string, part int) {
	name := strings.TrimSuffix(strings.TrimPrefix(filepath.Base(path), "audit-"), ".jsonl")
	if len(name) > len("2006-01-02-") {
		part, _ = strconv.Atoi(name[len("2006-01-02-"):])
		name = name[:len("2006-01-02")]
	}
	return name, part
}

// globEscape makes a folder's name a pattern that matches just it.
func globEscape(dir string) string {
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`).Replace(dir)
}
