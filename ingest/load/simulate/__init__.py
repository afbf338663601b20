"""Greenhouses that behave like greenhouses, and gateways that behave like gateways: what they would publish.

    sun, air, weather   the sky over a site, minute by minute
    climate             a greenhouse under it, with its controller
    probes              what is measured of that, and how it fails
    installation        tenants, greenhouses and sensors, and their catalog
    formats             topics and payloads
    gateway             schedule, outages, buffers, clocks
    stream              all gateways, merged by time

Pure: a plan in, messages out. The same plan gives the same messages, byte for byte.
"""
