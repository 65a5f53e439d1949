// Command anteroom-demo shows Anteroom at work on one machine: five sample applications, a small
// OpenID Provider, and Caddy with the anteroom modules in front of them.
//
// It listens on 127.0.0.1 and ::1 only, opens no port 80, installs nothing into the machine's trust
// store and keeps its state in one folder. The product's binary contains none of this.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	_ "github.com/caddyserver/caddy/v2/modules/standard"
)

func main() {
	opts, err := parseFlags(os.Args[1:], os.Stderr)
	if errors.Is(err, flag.ErrHelp) {
		return
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "anteroom-demo:", err)
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, opts, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "anteroom-demo:", err)
		os.Exit(1)
	}
}

type options struct {
	port      int
	dir       string
	noBrowser bool
	readyFile string
}

func parseFlags(args []string, out io.Writer) (options, error) {
	var o options
	f := flag.NewFlagSet("anteroom-demo", flag.ContinueOnError)
	f.SetOutput(out)
	f.IntVar(&o.port, "port", 8443, "`port` of https://localhost and of the apps, 1 to 65535")
	f.StringVar(&o.dir, "dir", "", "`folder` for all state; made when absent (default \"anteroom-demo\" in the user's data folder)")
	f.BoolVar(&o.noBrowser, "no-browser", false, "do not open a browser")
	f.StringVar(&o.readyFile, "ready-file", "", "`file` to write the start page's address to when everything answers")
	if err := f.Parse(args); err != nil {
		return o, err
	}
	if f.NArg() > 0 {
		return o, fmt.Errorf("reading the command line: %q is not understood; see --help", f.Arg(0))
	}
	if o.port < 1 || o.port > 65535 {
		return o, fmt.Errorf("reading --port: %d is no port; give 1 to 65535", o.port)
	}
	if o.dir == "" {
		base := os.Getenv("XDG_DATA_HOME")
		if base == "" {
			home, err := os.UserHomeDir()
			if err != nil {
				return o, fmt.Errorf("finding a folder for the state: %w; give one with --dir", err)
			}
			base = filepath.Join(home, ".local", "share")
		}
		o.dir = filepath.Join(base, "anteroom-demo")
	}
	dir, err := filepath.Abs(o.dir)
	if err != nil {
		return o, fmt.Errorf("reading --dir: %w", err)
	}
	o.dir = dir
	return o, checkDir(dir)
}

// checkDir refuses a folder whose name the Caddyfile cannot hold as it is: escapes and placeholders
// in it would lead to another folder.
func checkDir(dir string) error {
	if strconv.Quote(dir) != `"`+dir+`"` || strings.ContainsAny(dir, "{}") {
		return fmt.Errorf("reading --dir: %q has quotes, backslashes, braces or invisible characters in it; give another folder", dir)
	}
	return nil
}

// openBrowser opens the start page where there is a desktop; without one the printed address is enough.
func openBrowser(address string) {
	if os.Getenv("DISPLAY") == "" && os.Getenv("WAYLAND_DISPLAY") == "" {
		return
	}
	if cmd := exec.Command("xdg-open", address); cmd.Start() == nil {
		go func() { _ = cmd.Wait() }() // ends with the opener, which returns at once
	}
}
