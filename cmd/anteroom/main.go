// Command anteroom is Caddy with the anteroom modules. Its imports are exactly what xcaddy.json
// lists, so that xcaddy builds the same program.
package main

import (
	_ "github.com/anteroom-proxy/anteroom/caddymodule"
	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	_ "github.com/caddyserver/caddy/v2/modules/standard"
)

func main() { caddycmd.Main() }
