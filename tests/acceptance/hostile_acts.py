"""What a broker can do wrong, for `HostileBroker`: each with what the worker has to tell the operator."""

from __future__ import annotations

from typing import Final

from tests.hostile_broker import End, State, Wrong

PUBLISH_3: Final = b"\x30\x04\x00\x01tx"
PUBLISH_5: Final = b"\x30\x05\x00\x01t\x00x"


def _suback(*codes: int, mqtt5: bool, packet_id: bytes = b"ID") -> bytes:
    body = packet_id + b"\x00" * mqtt5 + bytes(codes)
    return bytes([0x90, len(body)]) + body


def _common(*, mqtt5: bool) -> tuple[Wrong, ...]:
    """List what is wrong in both versions."""
    properties = b"\x00" * mqtt5
    ends: tuple[End, ...] = ("fin", "rst")
    states: tuple[tuple[State, str], ...] = (
        ("accept", "hung up before CONNACK|cannot connect"),
        ("connect", "hung up before CONNACK"),
        ("connack", "gone|closed|ended|failed"),
        ("subscribe", "gone|closed|ended|failed"),
        ("suback", "closed|ended|failed"),
    )
    return (
        *(
            Wrong(f"{end} after {state}", says, end=end, end_after=state)
            for end in ends
            for state, says in states
        ),
        Wrong("no CONNACK", "no CONNACK", connack=b"", end_after="connack"),
        Wrong(
            "a PUBLISH for a greeting",
            "no CONNACK",
            greeting=b"\x30\x04\x00\x01tx",
            connack=b"",
            end_after="connack",
        ),
        Wrong("a PUBLISH ahead of CONNACK", "", greeting=PUBLISH_5 if mqtt5 else PUBLISH_3),
        Wrong(
            "bytes that are no MQTT for a greeting",
            "hung up|no CONNACK",
            greeting=b"HTTP/1.1 400 Bad Request\r\n\r\n",
            connack=b"",
            end_after="connack",
        ),
        Wrong("an empty CONNACK", "CONNACK", connack=b"\x20\x00", end_after="connack"),
        Wrong("a CONNACK of one byte", "CONNACK", connack=b"\x20\x01\x00", end_after="connack"),
        Wrong(
            "an unknown reason",
            "refused|CONNACK",
            connack=b"\x20" + (b"\x03\x00\xfe\x00" if mqtt5 else b"\x02\x00\xfe"),
            end_after="connack",
        ),
        Wrong("a second CONNACK", "", after=b"\x20" + (b"\x03\x00\x00\x00" if mqtt5 else b"\x02\x00\x00")),
        Wrong("no SUBACK", "no SUBACK", suback=b""),
        Wrong("a SUBACK of another id", "no SUBACK", suback=_suback(1, mqtt5=mqtt5, packet_id=b"\xff\xfe")),
        Wrong("a SUBACK without codes", "SUBACK", suback=_suback(mqtt5=mqtt5)),
        Wrong("a SUBACK of three codes", "SUBACK", suback=_suback(1, 1, 1, mqtt5=mqtt5)),
        Wrong("an empty SUBACK", "SUBACK", suback=b"\x90\x00"),
        Wrong("a SUBACK of one byte", "SUBACK", suback=b"\x90\x01\x00"),
        *(
            Wrong(
                f"a SUBACK of {code:#04x}",
                f"did not grant QoS 1 .*{code:#04x}",
                suback=_suback(code, mqtt5=mqtt5),
            )
            for code in (0x00, 0x02, 0x80, *((0x83, 0x87, 0x8F, 0x91, 0x97, 0x9E, 0xA1) if mqtt5 else ()))
        ),
        *(
            Wrong(
                f"a SUBACK of {code:#04x}, which is none",
                "did not grant|no MQTT",
                suback=_suback(code, mqtt5=mqtt5),
            )
            for code in (0x03, 0x7F, 0xFF)
        ),
        Wrong("a SUBACK nobody asked for", "", after=_suback(0x80, mqtt5=mqtt5, packet_id=b"\x12\x34")),
        Wrong("a PUBACK nobody asked for", "", after=b"\x40\x02\x12\x34"),
        Wrong("a PUBREC nobody asked for", "", after=b"\x50\x02\x12\x34"),
        Wrong("a PUBREL nobody asked for", "", after=b"\x62\x02\x12\x34"),
        Wrong("a PUBCOMP nobody asked for", "", after=b"\x70\x02\x12\x34"),
        Wrong(
            "an UNSUBACK nobody asked for",
            "",
            after=b"\xb0" + (b"\x04\x12\x34\x00\x00" if mqtt5 else b"\x02\x12\x34"),
        ),
        Wrong("a PINGRESP nobody asked for", "", after=b"\xd0\x00" * 1_000),
        *(
            Wrong(
                f"an empty packet of type {kind}", "MQTT|ended|closed|protocol", after=bytes([kind << 4, 0])
            )
            for kind in (0, 1, 2, 4, 5, 6, 7, 8, 9, 10, 11, *(() if mqtt5 else (14, 15)))
        ),
        Wrong("a PINGRESP with a body", "MQTT|ended|closed|protocol", after=b"\xd0\x01\x00"),
        Wrong("packet id 0", "id 0", after=b"\x32\x06" + b"\x00\x01t\x00\x00" + (properties or b"x")),
        Wrong("QoS 3", "flags 0x36", after=b"\x36\x06" + b"\x00\x01t\x00\x07" + (properties or b"x")),
        Wrong("an empty PUBLISH", "shorter than its own fields", after=b"\x30\x00"),
        Wrong("a PUBLISH that ends in its topic", "shorter than its own fields", after=b"\x32\x04\x00\x09ab"),
        Wrong("a PUBLISH that ends in its id", "shorter than its own fields", after=b"\x32\x04\x00\x01t\x00"),
        Wrong("a remaining length of five bytes", "more than four bytes", after=b"\x32\xff\xff\xff\xff\x01"),
        Wrong("a SUBACK of 200 MiB", "no PUBLISH", after=b"\x90\x80\x80\x80\x64" + bytes(1_200_000)),
        Wrong(
            "a topic of NULs",
            "",
            after=b"\x30" + (b"\x06" if mqtt5 else b"\x05") + b"\x00\x02\x00\x00" + properties + b"1",
        ),
        Wrong(
            "a topic that is no UTF-8",
            "",
            after=b"\x30" + (b"\x06" if mqtt5 else b"\x05") + b"\x00\x02\xff\xfe" + properties + b"1",
        ),
        Wrong(
            "an empty topic",
            "",
            after=b"\x30" + (b"\x04" if mqtt5 else b"\x03") + b"\x00\x00" + properties + b"1",
        ),
    )


MQTT_3: Final = _common(mqtt5=False)
MQTT_5: Final = (
    *_common(mqtt5=True),
    Wrong("a CONNACK without properties", "CONNACK", connack=b"\x20\x02\x00\x00", end_after="connack"),
    Wrong(
        "a CONNACK of more properties than bytes",
        "CONNACK",
        connack=b"\x20\x03\x00\x00\x7f",
        end_after="connack",
    ),
    Wrong(
        "a CONNACK of an unknown property",
        "CONNACK",
        connack=b"\x20\x05\x00\x00\x02\x7f\x00",
        end_after="connack",
    ),
    Wrong(
        "a CONNACK of a cut property", "CONNACK", connack=b"\x20\x05\x00\x00\x02\x11\x00", end_after="connack"
    ),
    Wrong(
        "a CONNACK of a property of another packet",
        "CONNACK",
        connack=b"\x20\x06\x00\x00\x03\x23\x00\x01",
        end_after="connack",
    ),
    Wrong(
        "a CONNACK of a property twice",
        "CONNACK",
        connack=b"\x20\x09\x00\x00\x06\x21\x00\x05\x21\x00\x05",
        end_after="connack",
    ),
    Wrong(
        "a CONNACK of text that is no UTF-8",
        "CONNACK",
        connack=b"\x20\x08\x00\x00\x05\x1f\x00\x02\xff\xfe",
        end_after="connack",
    ),
    Wrong(
        "a CONNACK of a property length over four bytes",
        "CONNACK",
        connack=b"\x20\x08\x00\x00\xff\xff\xff\xff\xff\x01",
        end_after="connack",
    ),
    Wrong("a SUBACK of more properties than bytes", "SUBACK", suback=b"\x90\x04ID\x7f\x01"),
    Wrong("a SUBACK of an unknown property", "SUBACK", suback=b"\x90\x06ID\x02\x7f\x00\x01"),
    Wrong(
        "a PUBLISH of more properties than bytes",
        "shorter than its own fields",
        after=b"\x32\x06\x00\x01t\x00\x07\x7f",
    ),
    Wrong(
        "a PUBLISH of a property length over four bytes",
        "more than four bytes",
        after=b"\x32\x0b\x00\x01t\x00\x07\xff\xff\xff\xff\xff\x01",
    ),
    Wrong("a DISCONNECT", "sent DISCONNECT", after=b"\xe0\x02\x8b\x00"),
    Wrong("an empty DISCONNECT", "sent DISCONNECT|ended", after=b"\xe0\x00"),
    Wrong("a DISCONNECT of an unknown reason", "DISCONNECT|ended", after=b"\xe0\x02\xfe\x00"),
    Wrong("a DISCONNECT of more properties than bytes", "DISCONNECT|ended", after=b"\xe0\x02\x8b\x7f"),
    Wrong("an AUTH", "MQTT|ended|closed|protocol", after=b"\xf0\x00"),
)
SLOW: Final = (
    Wrong("silence", "no PINGREQ", after=b""),
    Wrong(
        "a PUBLISH of 200 MiB that does not come",
        "no PINGREQ",
        after=b"\x32\x80\x80\x80\x64\x00\x01t\x00\x07",
    ),
    Wrong(
        "fragments without end",
        "no PINGREQ",
        after=b"\x32\xff\xff\x7f\x00\x01t\x00\x07" + bytes(2_000),
        piece_bytes=1,
    ),
)
