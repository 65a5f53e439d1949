package condition

import (
	"fmt"
	"net/netip"
	"reflect"
	"time"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
)

// part is an accessor of a time that takes a zone.
type part struct {
	name, without string // without is CEL's own overload
	of            func(time.Time) int
}

// parts are all of them. CEL loads the zone from a file at each call; here it is loaded with the expression.
var parts = []part{
	{"getFullYear", "timestamp_to_year_with_tz", time.Time.Year},
	{"getMonth", "timestamp_to_month_with_tz", func(t time.Time) int { return int(t.Month()) - 1 }},
	{"getDayOfYear", "timestamp_to_day_of_year_with_tz", func(t time.Time) int { return t.YearDay() - 1 }},
	{"getDate", "timestamp_to_day_of_month_1_based_with_tz", time.Time.Day},
	{"getDayOfMonth", "timestamp_to_day_of_month_with_tz", func(t time.Time) int { return t.Day() - 1 }},
	{"getDayOfWeek", "timestamp_to_day_of_week_with_tz", func(t time.Time) int { return int(t.Weekday()) }},
	{"getHours", "timestamp_to_hours_with_tz", time.Time.Hour},
	{"getMinutes", "timestamp_to_minutes_with_tz", time.Time.Minute},
	{"getSeconds", "timestamp_to_seconds_tz", time.Time.Second},
	{"getMilliseconds", "timestamp_to_milliseconds_with_tz", func(t time.Time) int { return t.Nanosecond() / 1e6 }},
}

// tables hold what the constants of one expression stand for.
type tables struct {
	zones    map[string]*time.Location
	networks map[string]netip.Prefix
}

// options declares the functions that look into the tables.
func (t *tables) options() []cel.EnvOption {
	var options []cel.EnvOption
	for _, part := range parts {
		of := part.of
		options = append(options, cel.Function(part.name, cel.MemberOverload("anteroom_"+part.without,
			[]*cel.Type{cel.TimestampType, cel.StringType}, cel.IntType, cel.BinaryBinding(func(when, zone ref.Val) ref.Val {
				at, ok := when.(types.Timestamp)
				name, ok2 := zone.(types.String)
				location := t.zones[string(name)]
				if !ok || !ok2 || location == nil {
					return types.NewErr("no such zone")
				}
				return types.Int(of(at.In(location)))
			}))))
	}
	return append(options, cel.Function("inNetwork", cel.Overload("anteroom_in_network",
		[]*cel.Type{addressType, cel.StringType}, cel.BoolType, cel.BinaryBinding(func(from, network ref.Val) ref.Val {
			addr, ok := from.(address)
			name, ok2 := network.(types.String)
			prefix, ok3 := t.networks[string(name)]
			if !ok || !ok2 || !ok3 {
				return types.NewErr("no such network")
			}
			return types.Bool(prefix.Contains(addr.Addr))
		}))))
}

// addressType is the type of request.address: no text, which could be compared in a spelling that it does not have.
var addressType = cel.OpaqueType("address")

type address struct{ netip.Addr }

// ConvertToNative is not supported: nothing takes an address out of an expression.
func (a address) ConvertToNative(reflect.Type) (any, error) {
	return nil, fmt.Errorf("an address stays an address")
}

// ConvertToType is not supported either.
func (a address) ConvertToType(ref.Type) ref.Val { return types.NewErr("an address stays an address") }

// Equal compares two addresses.
func (a address) Equal(other ref.Val) ref.Val {
	b, ok := other.(address)
	return types.Bool(ok && a.Addr == b.Addr)
}

// Type returns the type in CEL.
func (a address) Type() ref.Type { return addressType }

// Value returns the address.
func (a address) Value() any { return a.Addr }
