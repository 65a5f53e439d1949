package alarm

// labelID is hashed with what an event is about for the id of an event that brings none.
const labelID = "anteroom/alarm/event-id/v1"
