package emergency

// Every context in which this package seals, stores or hashes something.
const (
	// labelCookie is in the seal label of the cookie, before its session and site.
	labelCookie = "anteroom/emergency/cookie/v1"
	// labelRecord begins the store key of a review record, and is in its seal label.
	labelRecord = "anteroom/emergency/record/v1"
	// labelBuckets is the store key of the list of buckets, labelBucket begins those of the buckets: lists of records.
	labelBuckets = "anteroom/emergency/buckets/v1"
	labelBucket  = "anteroom/emergency/bucket/v1"
	// labelPerson begins the store key of how often a person broke the glass lately.
	labelPerson = "anteroom/emergency/person/v1"
	// labelOverdue is the store key of when it was last told that reviews are overdue.
	labelOverdue = "anteroom/emergency/overdue/v1"
)
